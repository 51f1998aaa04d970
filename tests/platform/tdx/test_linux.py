"""The bring-up of Linux 7.3, call by call, on the machines that scenarios use."""

from __future__ import annotations

import pytest

from harness.platform.tdx.layout import GIB, MIB
from tests.platform.tdx.host import Host, construct_tdmrs, memblock

ONE_PACKAGE = {0: 0, 1: 0, 2: 0, 3: 0}
TWO_PACKAGES = {0: 0, 1: 0, 2: 1, 3: 1}


@pytest.mark.parametrize("packages", [ONE_PACKAGE, TWO_PACKAGES], ids=["one package", "two packages"])
@pytest.mark.parametrize("memory", [512 * MIB, 768 * MIB, 3584 * MIB, 4 * GIB, 16 * GIB], ids="{:#x}".format)
def test_the_default_module_lets_linux_through(packages: dict[int, int], memory: int) -> None:
    host = Host.of(packages=packages, memory=memory)
    host.bring_up()
    assert host.module.summary == {
        "state": "ready",
        "lp_initialized": [0, 1, 2, 3],
        "packages_configured": sorted(set(packages.values())),
        "global_keyid": 16,
        "tdmrs": len(host.infos),
        "tdmrs_initialized": len(host.infos),
    }


def test_the_tdmrs_of_a_small_and_a_split_machine() -> None:
    assert [(info.base, info.size) for info in construct_tdmrs(memblock(768 * MIB))] == [(0, GIB)]
    assert [(info.base, info.size) for info in construct_tdmrs(memblock(4 * GIB))] == [(0, 3 * GIB), (4 * GIB, GIB)]


def test_initializing_tdmrs_takes_a_call_for_every_4_mib() -> None:
    host = Host.of(memory=4 * GIB)
    host.init()
    host.config()
    host.configure_keys()
    assert host.init_tdmrs() == 4 * GIB // (4 * MIB)


def test_what_linux_reads() -> None:
    host = Host.of()
    host.init()
    fields = host.read_metadata()
    version = [fields[number] for number in (0x0800000100000004, 0x0800000100000003, 0x0800000100000005)]
    assert version == [1, 5, 6]
    assert fields[0x0A00000300000008] & 0x140000 == 0x140000  # NO_RBP_MOD, TOPOLOGY_ENUM
    assert not fields[0x0A00000300000008] & 1 << 1  # TD preserving: else Linux looks for a P-SEAMLDR
    assert fields[0x9900000100000004] == 0
    # tdx_get_supported_attrs() and tdx_get_supported_xfam() of arch/x86/kvm/vmx/tdx.c
    assert fields[0x1900000300000000] & 1 << 28
    assert fields[0x1900000300000003] & ~fields[0x1900000300000002] == 0


def test_the_next_kernel_brings_it_up_again_after_sys_disable() -> None:
    host = Host.of()
    host.bring_up()
    host.succeed("TDH.SYS.DISABLE")
    assert host.state == "disabled"
    host.bring_up()
    assert host.state == "ready"


def test_the_next_kernel_cannot_without_sys_disable() -> None:
    host = Host.of()
    host.bring_up()
    assert host.status("TDH.SYS.INIT") == 0xC000050000000000
