"""The few runs that show a stranger whether an engine works on his host: what every claim about it rests on."""

from __future__ import annotations

from collections.abc import Iterator

from harness.machine.auto import Tools
from harness.paths import PROJECT
from harness.run.job import Job
from harness.scenario.load import load_scenario

# Loading and unloading, a CPU that goes and comes, S3, a reset with a VM open; then a hold, by QEMU's gdbstub where
# the CPUs are the host's. Any virtualization will do for them, and stock kernels. Measured: 4 minutes on emulated
# CPUs, on a busy host that has 2.
SCENARIOS = ("load-unload", "hotplug", "suspend", "life-of-a-vm", "races/reboot-during-load")
# Before and after virtualization moved out of KVM into the architecture's code.
KERNELS = ("debian:6.12", "debian:7.3")


def confirming(tools: Tools) -> Iterator[Job]:
    """The runs, on the engine of `tools`. Raises what `Tools.engine` raises."""
    for name in SCENARIOS:
        for scenario in load_scenario(PROJECT / "scenarios" / f"{name}.yaml").variants():
            for kernel in KERNELS:
                yield Job(scenario, kernel, tools.engine(scenario.machine), tools.qemu)
