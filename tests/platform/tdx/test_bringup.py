from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.platform.tdx import ModuleConfig, status_name
from harness.platform.tdx.layout import GIB, MIB, PAGE
from tests.platform.tdx.host import ARRAY, INFOS, Host

INVALID_RCX = 0xC000010000000001
INVALID_RDX = 0xC000010000000002
INVALID_R8 = 0xC000010000000008
TWO_PACKAGES = {0: 0, 1: 0, 2: 1, 3: 1}


def initialized(config: ModuleConfig | None = None, *, memory: int = 768 * MIB) -> Host:
    """A host up to TDH.SYS.LP.INIT on all processors."""
    host = Host.of(config, packages=TWO_PACKAGES, memory=memory)
    host.init()
    return host


def configured(memory: int = 768 * MIB) -> Host:
    host = initialized(memory=memory)
    host.config()
    return host


def keys_configured(memory: int = 768 * MIB) -> Host:
    host = configured(memory)
    host.configure_keys()
    return host


def ready(memory: int = 768 * MIB) -> Host:
    host = keys_configured(memory)
    host.init_tdmrs()
    return host


STAGES: dict[str, Callable[[], Host]] = {
    "pending": lambda: Host.of(packages=TWO_PACKAGES),
    "initialized": initialized,
    "configured": configured,
    "keys_configured": keys_configured,
    "ready": ready,
}


@pytest.mark.parametrize("stage", STAGES)
def test_the_stages_of_bring_up(stage: str) -> None:
    assert STAGES[stage]().state == stage


@pytest.mark.parametrize(
    ("leaf", "stages", "status"),
    [
        ("TDH.SYS.INIT", ("initialized", "configured", "ready"), "TDX_SYS_INIT_NOT_PENDING"),
        ("TDH.SYS.LP.INIT", ("pending", "configured", "ready"), "TDX_SYS_LP_INIT_NOT_PENDING"),
        ("TDH.SYS.LP.INIT", ("initialized",), "TDX_SYS_LP_INIT_DONE"),
        ("TDH.SYS.RD", ("pending",), "TDX_SYS_LP_INIT_NOT_DONE"),
        ("TDH.SYS.RDALL", ("pending",), "TDX_SYS_LP_INIT_NOT_DONE"),
        ("TDH.SYS.INFO", ("pending",), "TDX_SYS_LP_INIT_NOT_DONE"),
        ("TDH.SYS.CONFIG", ("pending", "configured", "keys_configured", "ready"), "TDX_SYS_CONFIG_NOT_PENDING"),
        ("TDH.SYS.KEY.CONFIG", ("pending", "initialized", "ready"), "TDX_SYS_KEY_CONFIG_NOT_PENDING"),
        ("TDH.SYS.TDMR.INIT", ("pending", "initialized", "configured"), "TDX_SYS_NOT_READY"),
        ("TDH.PHYMEM.PAGE.RDMD", ("pending", "initialized", "configured"), "TDX_SYS_NOT_READY"),
        ("TDH.SYS.SHUTDOWN", ("pending", "initialized", "configured"), "TDX_SYS_NOT_READY"),
        ("TDH.SYS.UPDATE", ("pending", "configured", "ready"), "TDX_SYS_STATE_INCORRECT"),
        ("TDH.SYS.UPDATE", ("initialized",), "TDX_SYS_INVALID_HANDOFF"),
        ("TDH.SYS.LP.SHUTDOWN", tuple(STAGES), "TDX_SUCCESS"),
    ],
)
def test_a_call_out_of_order(leaf: str, stages: tuple[str, ...], status: str) -> None:
    for stage in stages:
        host = STAGES[stage]()
        assert status_name(host.status(leaf)) == status, stage
        assert host.state == stage


def test_sys_init_takes_no_attributes() -> None:
    host = Host.of()
    assert host.status("TDH.SYS.INIT", rcx=1) == INVALID_RCX
    host.succeed("TDH.SYS.INIT")


@pytest.mark.parametrize(
    ("keyids", "status"), [(2032, "TDX_SUCCESS"), (2033, "TDX_NUM_ACTIVATED_HKIDS_NOT_SUPPORTED")]
)
def test_sys_init_counts_keyids(keyids: int, status: str) -> None:
    host = Host.of(ModuleConfig(mktme_keyids=15, tdx_keyids=keyids))
    assert status_name(host.status("TDH.SYS.INIT")) == status


def test_lp_init_once_per_processor() -> None:
    host = Host.of(packages=TWO_PACKAGES)
    host.succeed("TDH.SYS.INIT")
    host.succeed("TDH.SYS.LP.INIT", 2)
    assert status_name(host.status("TDH.SYS.LP.INIT", 2)) == "TDX_SYS_LP_INIT_DONE"
    host.succeed("TDH.SYS.LP.INIT", 0)
    assert host.module.summary["lp_initialized"] == [2, 0]


def test_config_needs_every_processor() -> None:
    """What becomes of maxcpus= on the kernel's command line."""
    host = Host.of(packages=TWO_PACKAGES)
    host.succeed("TDH.SYS.INIT")
    for lp in (0, 1, 2):
        host.succeed("TDH.SYS.LP.INIT", lp)
    operands = host.place([])
    assert status_name(host.status("TDH.SYS.CONFIG", **operands)) == "TDX_SYS_CONFIG_NOT_PENDING"
    host.succeed("TDH.SYS.LP.INIT", 3)
    host.config()


@pytest.mark.parametrize(
    ("operands", "status"),
    [
        ({"rcx": ARRAY + 8}, INVALID_RCX),
        ({"rcx": ARRAY + 256}, INVALID_RCX),
        ({"rcx": 1 << 52}, INVALID_RCX),
        ({"rcx": ARRAY | 16 << 40}, INVALID_RCX),  # a private KeyID
        ({"rcx": 1 << 39}, INVALID_RCX),  # nothing there: reads as ones, which are no aligned address
        ({"rdx": 0}, INVALID_RDX),
        ({"rdx": 65}, INVALID_RDX),
        ({"rdx": 64}, 0xC0000A0100000001),  # the second of them is all zeros, and so not above the first
        ({"r8": 15}, INVALID_R8),
        ({"r8": 32}, INVALID_R8),
        ({"r8": 1 << 16 | 16}, INVALID_R8),  # dynamic PAMT
        ({"r8": 1 << 17 | 16}, INVALID_R8),  # reserved
        ({"rcx": ARRAY | 15 << 40}, 0),  # a KeyID of MKTME
        ({"r8": 31}, 0),
        ({}, 0),
    ],
)
def test_operands_of_config(operands: dict[str, int], status: int) -> None:
    host = initialized()
    good = host.place(configured().infos)
    assert hex(host.status("TDH.SYS.CONFIG", **(good | operands))) == hex(status)
    assert host.state == ("initialized" if status else "configured")


@pytest.mark.parametrize("pa", [INFOS + 256, 1 << 52, INFOS | 16 << 40, 1 << 63])
def test_the_address_of_a_tdmr_info(pa: int) -> None:
    host = initialized()
    operands = host.place(configured().infos)
    host.ram.write(ARRAY, pa.to_bytes(8, "little"))
    assert host.status("TDH.SYS.CONFIG", **operands) == INVALID_RCX


def test_the_tdmrs_are_checked_as_test_tdmr_says() -> None:
    host = initialized(memory=4 * GIB)
    operands = host.place(configured(4 * GIB).infos[::-1])
    assert host.status("TDH.SYS.CONFIG", **operands) == 0xC0000A0100000001  # TDX_NON_ORDERED_TDMR, the second
    host.config()  # and the host may try again


def test_an_old_module_takes_fewer_tdmrs() -> None:
    host = initialized(ModuleConfig(metadata={"MAX_TDMRS": 1}), memory=4 * GIB)
    assert host.status("TDH.SYS.CONFIG", **host.place(configured(4 * GIB).infos)) == INVALID_RDX


def test_keys_once_per_package_on_any_of_its_processors() -> None:
    host = configured()
    host.succeed("TDH.SYS.KEY.CONFIG", 3)
    assert status_name(host.status("TDH.SYS.KEY.CONFIG", 2)) == "TDX_KEY_CONFIGURED"
    assert host.state == "configured"
    host.succeed("TDH.SYS.KEY.CONFIG", 1)
    assert host.state == "keys_configured"


def test_tdmr_init_reports_whole_gib() -> None:
    host = keys_configured(4 * GIB)
    reported = [host.succeed("TDH.SYS.TDMR.INIT", rcx=0).rdx for _ in range(257)]
    assert reported == [0] * 255 + [GIB] * 2
    assert host.state == "keys_configured"
    registers = host.call("TDH.SYS.TDMR.INIT", rcx=4 * GIB, rdx=77)
    assert registers.rdx == 4 * GIB  # the other TDMR has its own progress


@pytest.mark.parametrize("base", [PAGE, GIB, 5 * GIB, 1 << 40, 1 << 63])
def test_tdmr_init_of_no_tdmr(base: int) -> None:
    registers = keys_configured(4 * GIB).call("TDH.SYS.TDMR.INIT", rcx=base, rdx=77)
    assert (registers.rax, registers.rdx) == (INVALID_RCX, 0)


def test_tdmr_init_of_an_initialized_tdmr() -> None:
    assert status_name(ready().status("TDH.SYS.TDMR.INIT", rcx=0)) == "TDX_TDMR_ALREADY_INITIALIZED"


def test_another_step_of_tdmr_init() -> None:
    host = Host.of(ModuleConfig(pamt_entries_per_call=1 << 18))
    host.init()
    host.config()
    host.configure_keys()
    assert host.init_tdmrs() == 1


@pytest.mark.parametrize(("version", "status"), [(0, INVALID_RCX), (2, INVALID_RCX), (1, 0)])
def test_shutdown_wants_the_hand_off_version(version: int, status: int) -> None:
    host = ready()
    assert host.status("TDH.SYS.SHUTDOWN", rcx=version) == status
    assert host.state == ("ready" if status else "shutdown")


@pytest.mark.parametrize(
    "leaf", ["TDH.SYS.INIT", "TDH.SYS.RD", "TDH.SYS.DISABLE", "TDH.SYS.UPDATE", "TDH.MNG.CREATE"]
)
def test_nothing_works_after_shutdown(leaf: str) -> None:
    host = ready()
    host.succeed("TDH.SYS.SHUTDOWN", rcx=1)
    assert status_name(host.status(leaf)) == "TDX_SYS_SHUTDOWN"
    host.succeed("TDH.SYS.LP.SHUTDOWN")


@pytest.mark.parametrize("stage", STAGES)
def test_disable_at_every_stage(stage: str) -> None:
    host = STAGES[stage]()
    host.succeed("TDH.SYS.DISABLE", 1)
    assert host.module.summary == {
        "state": "disabled",
        "lp_initialized": [],
        "packages_configured": [],
        "global_keyid": None,
        "tdmrs": 0,
        "tdmrs_initialized": 0,
    }
    assert status_name(host.status("TDH.SYS.RD")) == "TDX_SYS_LP_INIT_NOT_DONE"
    assert status_name(host.status("TDH.PHYMEM.PAGE.RDMD")) == "TDX_SYS_NOT_READY"
    assert status_name(host.status("TDH.SYS.LP.INIT")) == "TDX_SYS_LP_INIT_NOT_PENDING"
    host.succeed("TDH.SYS.INIT")


def test_an_older_module_has_no_disable() -> None:
    host = Host.of(ModuleConfig(features0=0x140000))
    assert status_name(host.status("TDH.SYS.DISABLE")) == "TDX_SYS_NOT_READY"
    host.bring_up()
    assert host.status("TDH.SYS.DISABLE") == 0xC000010000000000
    assert host.state == "ready"
