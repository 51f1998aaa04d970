"""`pytest scenarios/`: YAML scenarios as tests, one per kernel; and fixtures for tests written in Python.

A scenario's test passes when every claim is confirmed, or as its `known` declares. `-k debian:6.12` picks a kernel;
each test carries the markers `scenario` and one per claim (`-m misc_register_last`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from harness.deadline import Deadline
from harness.errors import Exit, HarnessError
from harness.kernels.model import Kernel
from harness.kernels.resolve import resolve
from harness.machine.auto import Tools
from harness.mutants.named import kernel_of, named_kernel
from harness.report.result import RunResult
from harness.report.terminal import evidence
from harness.run import Job, run_job
from harness.scenario.load import REFERENCE_CLAIMS, load_scenario
from harness.scenario.model import Scenario

if TYPE_CHECKING:
    from harness.guest.session import Session
    from harness.machine.machine import Machine

_KERNEL_S = 1800.0
_BOOT_S = 120.0
_DEFAULT_KERNEL = "debian:6.12"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the plugin; --harness-kernel also chooses the kernel of the `machine` fixture."""
    group = parser.getgroup("harness", "virtualization ordering harness")
    group.addoption(
        "--harness-kernel", action="append", default=[], metavar="K", help="run on this kernel (repeatable)"
    )
    group.addoption("--harness-engine", default="auto", metavar="E", help="tcg-svm, tcg-vmx, kvm or auto")
    group.addoption(
        "--allow-not-exercised", action="store_true", help="skip, instead of fail, what was not exercised"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers."""
    config.addinivalue_line("markers", "scenario: a YAML scenario")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Scenario files: *.yaml with the keys of a scenario. Other YAML is left alone."""
    if file_path.suffix != ".yaml" or file_path.name == REFERENCE_CLAIMS.name or not _looks_like_one(file_path):
        return None
    return ScenarioFile.from_parent(parent, path=file_path)


def _looks_like_one(path: Path) -> bool:
    text = path.read_text(errors="replace")
    return all(f"\n{key}:" in f"\n{text}" for key in ("claims", "steps", "expect"))


class ScenarioFile(pytest.File):
    """A scenario; its items are its kernels."""

    def collect(self) -> Iterator[ScenarioItem]:
        try:
            scenario = load_scenario(self.path)
        except HarnessError as error:
            raise self.CollectError(str(error)) from error
        kernels = self.config.getoption("--harness-kernel") or scenario.kernels
        for variant, kernel in itertools.product(scenario.variants(), kernels):
            yield ScenarioItem.from_parent(self, name=f"{variant.name}[{kernel}]", scenario=variant, kernel=kernel)


class ScenarioNotConfirmed(Exception):
    """A scenario whose verdicts are not the declared ones."""

    def __init__(self, result: RunResult) -> None:
        super().__init__(result.title)
        self.result = result


class ScenarioItem(pytest.Item):
    """A scenario on a kernel."""

    def __init__(self, *, scenario: Scenario, kernel: str, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]  # passed through to pytest's node
        self.scenario = scenario
        self.kernel = kernel
        self.add_marker("scenario")
        for use in scenario.claims:
            marker = use.claim.id.replace("-", "_")
            self.config.addinivalue_line("markers", f"{marker}: {use.claim.text[:60]}")
            self.add_marker(marker)

    def runtest(self) -> None:
        """Runs it. Raises ScenarioNotConfirmed; skips what was not exercised where that is allowed."""
        tools = _tools(str(self.config.getoption("--harness-engine")))
        spec, options = kernel_of(self.scenario, self.kernel)
        result = run_job(Job(self.scenario, spec, tools.engine(self.scenario.machine), tools.qemu, options))
        self.add_report_section("call", "run", str(result.folder))
        if result.exit is Exit.NOT_EXERCISED and self.config.getoption("--allow-not-exercised"):
            pytest.skip(f"not exercised: {_reason(result)}")
        if result.exit is not Exit.CONFIRMED:
            raise ScenarioNotConfirmed(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """The evidence, as `harness run` prints it."""
        if isinstance(excinfo.value, ScenarioNotConfirmed):
            return _report(excinfo.value.result)
        if isinstance(excinfo.value, HarnessError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.scenario.title} [{self.kernel}]"


@functools.cache
def _tools(name: str) -> Tools:
    """Those of the whole session."""
    return Tools(name)


def _reason(result: RunResult) -> str:
    return next(
        (f.text for c in result.judgement.claims for f in c.findings if f.finding.value == "unseen"), result.fault
    )


def _report(result: RunResult) -> str:
    console = Console(width=110, no_color=True)
    with console.capture() as capture:
        for claim in result.judgement.claims:
            if not claim.as_declared:
                console.print(evidence(result, claim))
        console.print(f"{result.fault}\nrun: {result.folder}", markup=False)
    return capture.get()


@pytest.fixture(scope="session")
def kernel(request: pytest.FixtureRequest) -> Kernel:
    """The kernel of --harness-kernel (the first one), or Debian's 6.12."""
    name = [*request.config.getoption("--harness-kernel"), _DEFAULT_KERNEL][0]
    return resolve(*named_kernel(name), Deadline.after(_KERNEL_S, f"kernel {name}"))


@pytest.fixture
def guest(request: pytest.FixtureRequest, kernel: Kernel, tmp_path: Path) -> Iterator[Session]:
    """A booted guest with 4 CPUs and a shell: `guest.run("uname -r", Deadline.after(10, "uname"))`."""
    from harness.guest.boot import booted

    tools = _tools(str(request.config.getoption("--harness-engine")))
    deadline = Deadline.after(_BOOT_S, "the guest's boot")
    with booted(kernel, tools.engine(), tools.qemu, tmp_path, deadline) as session:
        yield session


@pytest.fixture
def machine(guest: Session) -> Machine:
    """The machine under `guest`: QMP, console, registers."""
    return guest.machine
