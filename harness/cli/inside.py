"""The harness's command line inside the lab: `python3 -m harness.cli.inside run …`.

Its stdin is the connection from the host. When that ends, because the command there was interrupted or killed, this
one ends as it does for Ctrl-C: with its folder complete, and no guest behind.
"""

from __future__ import annotations

import os
import signal
import threading

from harness.cli import main


def _end_with_the_connection() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_connection, daemon=True).start()
    main()
