"""Which runs a folder stands for: a run, a batch, or a folder of runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.errors import HostFault, UsageError
from harness.output import write_output
from harness.paths import runs_dir
from harness.report.html import INDEX, index_page
from harness.report.result import NotRun, RunResult

RUN = "run.json"
BATCH = "batch.json"
BATCH_FORMAT = 1  # raised when an old harness would misread it


def is_run(path: Path) -> bool:
    return (path / RUN).is_file()


def run_folders(paths: Iterable[Path]) -> list[Path]:
    """The folders of runs that are meant, each once: runs themselves, those of a batch, and those in a folder.

    The index of a folder of runs, which a shell's `runs/*` names too, is none. Raises UsageError for a path that
    stands for no run.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if path.name == INDEX and path.is_file():
            continue
        for run in _runs_of(path):
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _runs_of(path: Path) -> Sequence[Path]:
    if is_run(path) or not path.is_dir():
        return [path]  # whoever reads it says what is wrong with it
    if (path / BATCH).is_file():
        return _batch(path)
    runs = sorted(inner for inner in path.iterdir() if is_run(inner))
    if not runs:
        raise UsageError(
            f"{path} is neither the folder of a run nor one of runs",
            expected=f"a folder with {RUN} or {BATCH}, or with such folders in it",
        )
    return runs


def missing_runs(paths: Iterable[Path]) -> list[NotRun]:
    """The runs that batches among `paths` did not come to. Raises UsageError for what is no list of a batch."""
    return [
        missing for path in paths if (path / BATCH).is_file() and not is_run(path) for missing in _read_batch(path)[1]
    ]


def _batch(path: Path) -> list[Path]:
    return _read_batch(path)[0]


def _read_batch(path: Path) -> tuple[list[Path], list[NotRun]]:
    file = path / BATCH
    try:
        batch = json.loads(file.read_text())
        if batch["format"] != BATCH_FORMAT:
            raise UsageError(
                f"{file} has another format", expected=f"format {BATCH_FORMAT}", found=f"format {batch['format']}"
            )
        return [path / run for run in batch["runs"]], [NotRun.from_json(one) for one in batch.get("not_run", ())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is not the list of a batch: {error}") from error


def write_batch(results: Sequence[RunResult], not_run: Sequence[NotRun] = ()) -> Path:
    """Makes the folder of a batch beside those of its runs, with its list and its index; returns the index.

    `not_run` is what it ended before: who reads the list later must not take the rest for all of it.

    Raises HostFault when it cannot be made.
    """
    name = time.strftime("%Y%m%dT%H%M%S") + "-batch"
    for number in range(1, 1000):
        folder = runs_dir() / (name if number == 1 else f"{name}.{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise HostFault(f"cannot make {folder}: {error.strerror}") from error
        runs = [os.path.relpath(result.folder, folder.absolute()) for result in results]
        batch = {"format": BATCH_FORMAT, "runs": runs, "not_run": [missing.to_json() for missing in not_run]}
        write_output(str(folder / BATCH), json.dumps(batch, indent=2) + "\n")
        write_output(str(folder / INDEX), index_page(results, folder, not_run))
        return folder / INDEX
    raise HostFault(f"{runs_dir()} is full of batches named {name}")
