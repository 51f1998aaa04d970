"""Which holder holds a task: the emulated platform's plugin, or QEMU's gdbstub."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernels.model import Kernel
from harness.machine.machine import Machine
from harness.probes.addresses import SymbolTable
from harness.probes.functions import FunctionProbes
from harness.probes.gdb_holds import GdbHolder
from harness.probes.plugin_holds import PluginHolder
from harness.probes.points import Holder
from harness.scenario.kinds import HoldMode

HoldsChoice = Literal["auto", "plugin", "gdbstub"]
CHOICES: tuple[HoldsChoice, ...] = get_args(HoldsChoice)


def holder_name(mode: HoldMode, choice: HoldsChoice, *, emulated: bool) -> Literal["plugin", "gdbstub"]:
    """Who holds in a mode, on an engine with the emulated platform or without."""
    return "plugin" if emulated and mode != "hard" and choice != "gdbstub" else "gdbstub"


@dataclass
class Holders:
    """The holders of one machine, each made when it is first needed: the gdbstub opens on a machine that runs.

    Only the gdbstub can stop a vCPU; what the plugin can do it does without stopping the machine, so it comes first.
    """

    machine: Machine
    kernel: Kernel
    symbols: SymbolTable
    functions: FunctionProbes | None  # None on an engine without the emulated platform
    choice: HoldsChoice = "auto"
    made: dict[str, Holder] = field(default_factory=dict)

    def of(self, mode: HoldMode, deadline: Deadline) -> Holder:
        """The holder for holds of a mode. Raises UsageError where the one that was asked for cannot do it."""
        if self.choice == "plugin" and (self.functions is None or mode == "hard"):
            raise UsageError(
                f"the plugin cannot hold in mode {mode} here",
                expected="mode soft or busy, on an engine with the emulated platform",
                hint="--holds auto",
            )
        name = holder_name(mode, self.choice, emulated=self.functions is not None)
        if name not in self.made:
            self.made[name] = self._plugin() if name == "plugin" else self._gdbstub(deadline)
        return self.made[name]

    def _plugin(self) -> Holder:
        assert self.functions is not None
        return PluginHolder(self.functions, self.machine.ring)

    def _gdbstub(self, deadline: Deadline) -> Holder:
        return GdbHolder(self.machine, self.kernel, self.symbols, deadline)
