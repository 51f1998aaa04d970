"""What travels between the host of a night and a worker elsewhere: a run with its patches, and its folder back."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness import paths
from harness.cache import disk_full_is_a_host_fault
from harness.deadline import Deadline
from harness.errors import HarnessError, HostFault
from harness.fleet.cell import CellRun
from harness.kernels.kconfig import read_fragment
from harness.kernels.model import BuildOptions
from harness.kernels.patches import read_patches
from harness.report.folders import RUN
from harness.report.result import RunResult
from harness.workers import in_parallel

_PIN_S = 30.0


@dataclass(frozen=True)
class Parcel:
    """A run, with the texts of the files that its kernel is made with. Its key does not depend on their names."""

    run: CellRun
    patches: tuple[str, ...]
    fragments: tuple[str, ...]

    @classmethod
    def of(cls, run: CellRun) -> Parcel:
        options = run.kernel.options
        diffs = (patch.diffs for patch in read_patches(options.patches))
        return cls(
            run,
            patches=tuple("".join(diff.text for diff in one) for one in diffs),
            fragments=tuple(read_fragment(name).text for name in options.config_fragments),
        )

    @contextmanager
    def unpacked(self) -> Iterator[CellRun]:
        """The run as it is done on this host, in a folder that is removed afterwards."""
        paths.runs_dir().mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="lab-", dir=paths.runs_dir())).absolute()
        try:
            options = BuildOptions(
                patches=tuple(_written(folder, "patch", self.patches)),
                config_fragments=tuple(str(path) for path in _written(folder, "config", self.fragments)),
                modules_only=self.run.kernel.options.modules_only,
            )
            self.run.kernel.pin(Deadline.after(_PIN_S, "the packages that a kernel stands for"))
            yield replace(self.run, kernel=replace(self.run.kernel, options=options), runs=folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _written(folder: Path, suffix: str, texts: tuple[str, ...]) -> Iterator[Path]:
    for number, text in enumerate(texts):
        path = folder / f"{number:03}.{suffix}"
        path.write_text(text, errors="surrogateescape")
        yield path


@dataclass(frozen=True)
class Delivery:
    """What came of a parcel; `archive` is the run's folder as a tar, empty where there is none."""

    outcome: RunResult | HarnessError
    archive: bytes = b""

    def unpack(self, runs: Path) -> RunResult | HarnessError:
        """The outcome, with the folder unpacked into `runs`. Raises DiskFull, and HostFault for what is no folder of
        a run."""
        if isinstance(self.outcome, HarnessError):
            return self.outcome
        name = self.outcome.folder.name
        with disk_full_is_a_host_fault(runs):
            runs.mkdir(parents=True, exist_ok=True)
            # Two workers may have made folders of one name within one second.
            with tempfile.TemporaryDirectory(prefix=".arriving-", dir=runs) as place:
                try:
                    with tarfile.open(fileobj=io.BytesIO(self.archive)) as tar:
                        tar.extractall(place, filter="data")
                    (Path(place) / name / RUN).stat()
                except (tarfile.TarError, EOFError, zlib.error, FileNotFoundError) as error:
                    raise HostFault(f"the folder {name} did not arrive whole", found=repr(error)) from error
                folder = _free_name(runs, name)
                (Path(place) / name).rename(folder)
        return replace(self.outcome, folder=folder)


def _free_name(runs: Path, name: str) -> Path:
    number, path = 1, runs / name
    while path.exists():
        number, path = number + 1, runs / f"{name}.{number + 1}"
    return path


def deliver(work: Callable[[CellRun], RunResult], parcel: Parcel) -> Delivery:
    """Does `work` for a parcel, on the worker, but in a process of its own, so that the worker survives its crash."""
    try:
        with parcel.unpacked() as run:
            [(_, outcome)] = in_parallel(work, [run], 1, lambda run: run.title)
            if isinstance(outcome, HarnessError):
                return Delivery(outcome)
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
                tar.add(outcome.folder, outcome.folder.name)
            return Delivery(outcome, buffer.getvalue())
    except HarnessError as error:
        return Delivery(error)
