"""What pytest leaves alone, and what every test leaves as it was."""

import signal
from collections.abc import Iterator

import pytest

from harness import progress

# Recorded runs carry their scenario, which is no test of its own.
collect_ignore = ["recorded"]

# A shell without job control starts what it puts into the background with SIGINT ignored. What tests start and
# interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    """-q and -v are of the process: a command line that was tried is not to change what other tests see."""
    before = progress.level()
    yield
    progress.set_level(before)
