"""`harness shell`: the machine of a scenario, to look around in."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from pathlib import Path

import click

from harness import progress
from harness.cli import complete, options
from harness.cli.interactive import console
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.guest.boot import GuestPlan, fresh
from harness.guest.session import Session
from harness.kernels.model import BuildOptions
from harness.kernels.resolve import resolve
from harness.machine.argv import MachineSpec
from harness.machine.auto import Tools
from harness.machine.state import ENDED
from harness.mutants.named import kernel_of, named_kernel
from harness.probes.kallsyms import symbol_table
from harness.run.debugger import gdb_command
from harness.run.door import open_door
from harness.run.guest_plan import guest_plan, kernel_for
from harness.scenario.load import load_scenario
from harness.visit import live_run

_PREPARE_S = 1800.0  # a kernel from source takes ten minutes on two cores
_START_S = 30.0


@click.command()
@click.argument("scenario", required=False, type=click.Path(path_type=Path), shell_complete=complete.scenarios)
@options.kernel
@options.engine
@options.patches
@options.fragments
@options.modules_only
@options.quiet
def shell(
    scenario: Path | None,
    kernel: str | None,
    engine: str,
    patches: tuple[Path, ...],
    fragments: tuple[str, ...],
    modules_only: str,
) -> int:
    """Boot the machine that SCENARIO runs on, and give its console. No step is done; Ctrl-] ends it.

    Without SCENARIO it is the standard machine: four CPUs, 512 MiB. Without --kernel, the scenario's first kernel.
    The command for a second shell by ssh is printed; `harness attach` has QEMU's monitor and gdb.

    \b
    harness shell --kernel debian:6.12
    harness shell scenarios/suspend.yaml
    harness shell scenarios/tdx/bring-up.yaml
    harness shell --kernel debian:6.12 --patch series.mbox --modules-only kvm
    """
    build = BuildOptions(patches, fragments, modules_only)
    tools = Tools(engine)
    plan = _of_scenario(scenario, kernel, build, tools) if scenario else _standard(kernel, build, tools)
    name = f"shell-{plan.kernel.release}-{plan.engine.name}-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="shell-") as folder, contextlib.ExitStack() as guest:
        deadline = Deadline.after(_PREPARE_S, "the guest image")
        session = guest.enter_context(fresh(plan, Path(folder), deadline))
        guest.enter_context(open_door(name, session, lambda target: _gdb(plan, target)))
        session.start(Deadline.after(_START_S, "QEMU's start"))
        progress.note(f"{name}: Ctrl-] ends it; from other terminals:")
        progress.note(f"  {shlex.join(session.shell.by_hand)}")
        progress.note(f"  harness attach {name} --hmp    (--qmp, --gdb)")
        console(live_run(name), _Notice(session).say)
    return 0


def _of_scenario(path: Path, kernel: str | None, build: BuildOptions, tools: Tools) -> GuestPlan:
    scenario = load_scenario(path).variants()[0]
    spec, options = kernel_of(scenario, kernel or scenario.kernels[0], build)
    engine = tools.engine(scenario.machine)
    deadline = Deadline.after(_PREPARE_S, f"kernel {spec}")
    return guest_plan(scenario, kernel_for(scenario, spec, options, engine, deadline), engine, tools.qemu)


def _standard(kernel: str | None, build: BuildOptions, tools: Tools) -> GuestPlan:
    if kernel is None:
        raise UsageError(
            "which machine?", expected="a scenario, or --kernel", hint="harness shell --kernel debian:6.12"
        )
    spec, options = named_kernel(kernel, build)
    resolved = resolve(spec, options, Deadline.after(_PREPARE_S, f"kernel {spec}"))
    return GuestPlan(resolved, tools.engine(), tools.qemu, MachineSpec())


def _gdb(plan: GuestPlan, target: str) -> str:
    return gdb_command(plan.kernel, symbol_table(plan.kernel, plan.qemu), target)


class _Notice:
    """Says once that a machine stands still, which its console does not show."""

    def __init__(self, session: Session) -> None:
        self._machine = session.machine
        self._said = False

    def say(self) -> str:
        if self._said or self._machine.state not in ENDED:
            return ""
        self._said = True
        return f"\r\nharness: the machine is {self._machine.state.value}; Ctrl-] ends it\r\n"
