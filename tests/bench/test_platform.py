"""The bench of the emulated platform: what it compares, and when it has nothing to say."""

import pytest

from harness.bench import platform
from harness.bench.platform import WITH, WITHOUT
from harness.bench.sections import SECTIONS
from harness.bench.setup import Setup
from harness.errors import HostFault
from harness.machine.argv import MachineSpec
from harness.machine.emulated import layout_of
from harness.platform.tdx import ModuleConfig, Registers
from harness.platform.tdx.leaves import SYS_TDMR_INIT


class NoMemory:
    """Guest memory with nothing in it."""

    def read(self, pa: int, length: int) -> bytes | None:
        return None

    def write(self, pa: int, data: bytes) -> bool:
        return False


def test_the_boots_differ_by_the_plugin_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    section = SECTIONS["platform"](Setup(tmp_path_factory.mktemp("scratch")))
    (ratio,) = section.ratios
    assert (ratio.figure, ratio.reference, ratio.target) == (WITH, WITHOUT, 1.15)
    without = platform._without_plugin()
    assert not without.emulated
    assert without.cpu.startswith("max,vendor=GenuineIntel,") and "vmx=on" in without.cpu


def test_too_few_seamcalls_are_no_measurement() -> None:
    module = platform._TimedModule(ModuleConfig(), layout_of(MachineSpec()))
    with pytest.raises(HostFault, match="too few calls"):
        _ = module.interval
    for _ in range(20):
        module.seamcall(0, Registers(rax=SYS_TDMR_INIT), NoMemory())
    assert 0 < module.interval < 1
