"""The same guest on the harness's own engine."""

from __future__ import annotations

from pathlib import Path

from harness.deadline import Deadline
from harness.machine import toolchain
from harness.machine.argv import BootFiles, MachineSpec
from harness.machine.emulated import platform_of
from harness.machine.engine import by_name
from harness.machine.machine import Machine


def run(kernel: Path, initrd: Path, cmdline: str, last_line: str, folder: Path, deadline: Deadline) -> str:
    """Boots `kernel` with `initrd` on tcg-vmx until its console says `last_line`; returns what it said."""
    spec, engine, qemu = MachineSpec(cpus=2, cmdline=cmdline), by_name("tcg-vmx", ""), toolchain.find(deadline)
    platform = platform_of(spec, engine, qemu, folder, deadline)
    with Machine(spec, engine, qemu, BootFiles(kernel, initrd), folder, platform) as machine:
        machine.start(deadline)
        machine.wait_console(f"^{last_line}$", deadline)
        return "\n".join(line.text for line in machine.console.lines())
