"""`harness matrix` in a process that can be killed, with replays instead of guests: MATRIX [--resume|--new]."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.errors import HarnessError
from harness.fleet.matrix import load_matrix
from harness.fleet.night import begin, nights_of, only_one, resume
from harness.fleet.pool import LocalPool
from tests.fleet.site import replay


def main(arguments: list[str]) -> int:
    matrix = load_matrix(Path(arguments[0]))
    pool = LocalPool(1 if matrix.jobs == "auto" else matrix.jobs)
    with only_one(matrix), nights_of(matrix) as nights:
        if "--resume" in arguments:
            night = resume(matrix, nights, pool)
            assert night is not None
        else:
            night = begin(matrix, nights, pool, new="--new" in arguments)
        night.run(replay)
    return 0


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except HarnessError as error:
        print(error)
        status = int(error.exit)
    sys.exit(status)
