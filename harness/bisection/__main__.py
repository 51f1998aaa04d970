"""One step of `git bisect run`, in the worktree that git searches in: python -m harness.bisection FOLDER LEVEL."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from harness import progress
from harness.bisection.answer import Answer
from harness.bisection.bisection import Bisection
from harness.bisection.history import History
from harness.display import Level
from harness.errors import HarnessError


def main(folder: Path) -> int:
    """Tests the revision that git asks about. The exit status is git's, also for what is not a kernel's fault."""
    try:
        return _test(folder).status
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        return Answer.ABORT.status
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()  # Python's own exit status for it is 1, which git takes for a bad revision
        return Answer.ABORT.status


def _test(folder: Path) -> Answer:
    asked = History(Path.cwd()).git("rev-parse", "--verify", "BISECT_HEAD").strip()
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]  # they speak of the worktree, and the kernel is built from another repository
    bisection = Bisection.load(folder)
    return bisection.test(bisection.history.commit(asked)).answer


if __name__ == "__main__":
    progress.set_level(Level[sys.argv[2]])
    sys.exit(main(Path(sys.argv[1])))
