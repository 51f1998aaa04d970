from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.platform.tdx import (
    Completion,
    Done,
    Fault,
    FaultRule,
    ModuleConfig,
    Registers,
    TdxModule,
    VmFailInvalid,
    status_name,
)
from tests.platform.tdx.host import Host

MAX_TDMRS = 0x9100000100000008


def seamcall(host: Host, rax: int, lp: int = 0) -> Completion:
    return host.module.seamcall(lp, Registers(rax=rax), host.ram)


# --- what never reaches a handler


def test_no_module() -> None:
    host = Host.of(ModuleConfig(loaded=False))
    assert seamcall(host, 33) == VmFailInvalid()
    assert host.state == "not_loaded"


def test_there_is_no_p_seamldr() -> None:
    host = Host.of()
    assert seamcall(host, 1 << 63) == seamcall(host, 1 << 63 | 33) == VmFailInvalid()
    assert host.state == "pending"


def test_a_processor_that_firmware_did_not_find() -> None:
    host = Host.of(packages={0: 0, 1: 0})
    assert seamcall(host, 33, lp=2) == VmFailInvalid()
    assert isinstance(seamcall(host, 33, lp=1), Done)


@pytest.mark.parametrize("rax", [33 | 1 << 16, 33 | 1 << 24, 33 | 1 << 32, 33 | 1 << 62])
def test_a_version_or_reserved_bits(rax: int) -> None:
    host = Host.of()
    assert seamcall(host, rax) == Done(Registers(rax=0xC000010000000000))
    assert host.state == "pending"


@pytest.mark.parametrize("leaf", [9, 200, 0xFFFF])
def test_a_leaf_that_the_model_does_not_have(leaf: int) -> None:
    host = Host.of()
    assert seamcall(host, leaf) == Done(Registers(rax=0xC000050500000000))  # TDX_SYS_NOT_READY comes first
    host.bring_up()
    assert seamcall(host, leaf) == Done(Registers(rax=0xC000010000000000))


def test_registers_that_a_leaf_does_not_set_keep_their_values() -> None:
    operands = {"rdx": 2, "r8": 3, "r9": 4, "r10": 5, "r11": 6}
    host = Host.of()
    assert host.call("TDH.SYS.INIT", **operands) == Registers(0, 0, 0, 0, 0, 0, 6)
    assert host.call("TDH.SYS.LP.INIT", rcx=1, **operands) == Registers(0, 0, 0, 0, 4, 5, 6)


# --- faults


def test_a_status_instead_of_the_effect() -> None:
    host = Host.of(ModuleConfig(faults=(FaultRule("TDH.SYS.INIT", "TDX_RND_NO_ENTROPY", times=2),)))
    statuses = [status_name(host.status("TDH.SYS.INIT")) for _ in range(4)]
    assert statuses == ["TDX_RND_NO_ENTROPY"] * 2 + ["TDX_SUCCESS", "TDX_SYS_INIT_NOT_PENDING"]


def test_a_fault_leaves_the_operands() -> None:
    host = Host.of(ModuleConfig(faults=(FaultRule("TDH.SYS.INIT", "TDX_SYS_BUSY"),)))
    assert host.call("TDH.SYS.INIT", rcx=1, r8=2) == Registers(rax=0x8000020200000000, rcx=1, r8=2)


@pytest.mark.parametrize(
    ("outcome", "completion"),
    [
        ("vmfail", VmFailInvalid()),
        ("gp", Fault("gp")),
        ("ud", Fault("ud")),
        ("0xc000010000000008", Done(Registers(rax=0xC000010000000008))),
    ],
)
def test_outcomes(outcome: str, completion: Completion) -> None:
    host = Host.of(ModuleConfig(faults=(FaultRule("TDH.SYS.INIT", outcome),)))
    assert seamcall(host, 33) == completion
    assert seamcall(host, 33) == Done(Registers())


def test_a_fault_on_one_processor() -> None:
    host = Host.of(ModuleConfig(faults=(FaultRule("TDH.SYS.LP.INIT", "TDX_SYS_BUSY", lp=1),)))
    host.succeed("TDH.SYS.INIT")
    host.succeed("TDH.SYS.LP.INIT", 0)
    assert status_name(host.status("TDH.SYS.LP.INIT", 1)) == "TDX_SYS_BUSY"
    host.succeed("TDH.SYS.LP.INIT", 1)


def test_a_fault_on_the_nth_call() -> None:
    host = Host.of(ModuleConfig(faults=(FaultRule("TDH.SYS.RD", "TDX_SYS_BUSY", call=3, times=None),)))
    host.init()
    statuses = [status_name(host.status("TDH.SYS.RD", rdx=MAX_TDMRS)) for _ in range(5)]
    assert statuses == ["TDX_SUCCESS"] * 2 + ["TDX_SYS_BUSY"] * 3


def test_the_first_rule_that_strikes_wins_and_all_count() -> None:
    busy, entropy = FaultRule("TDH.SYS.INIT", "TDX_SYS_BUSY", call=2), FaultRule("TDH.SYS.INIT", "gp", times=3)
    host = Host.of(ModuleConfig(faults=(busy, entropy)))
    assert [seamcall(host, 33) for _ in range(4)] == [
        Fault("gp"),
        Done(Registers(rax=0x8000020200000000)),
        Fault("gp"),
        Done(Registers()),
    ]


def test_a_fault_on_another_leaf_does_nothing() -> None:
    host = Host.of(ModuleConfig(faults=(FaultRule("TDH.MNG.CREATE", "gp", times=None),)))
    host.bring_up()
    assert seamcall(host, 9) == Fault("gp")


def test_a_fault_in_the_middle_of_tdmr_init_costs_no_progress() -> None:
    host = Host.of(ModuleConfig(faults=(FaultRule("TDH.SYS.TDMR.INIT", "TDX_SYS_BUSY", call=100),)))
    host.init()
    host.config()
    host.configure_keys()
    statuses = [host.status("TDH.SYS.TDMR.INIT", rcx=0) for _ in range(257)]
    assert [nth for nth, status in enumerate(statuses, 1) if status] == [100]
    assert host.state == "ready"


def test_a_fault_that_has_not_struck_is_told() -> None:
    shadow, late = FaultRule("TDH.SYS.INIT", "gp"), FaultRule("TDH.SYS.LP.INIT", "TDX_SYS_BUSY", lp=1, call=5)
    host = Host.of(ModuleConfig(faults=(FaultRule("TDH.SYS.INIT", "TDX_SYS_BUSY"), shadow, late)))
    assert shadow in host.module.idle_faults and late in host.module.idle_faults
    host.status("TDH.SYS.INIT")
    host.bring_up()
    assert late.text == "TDX_SYS_BUSY by TDH.SYS.LP.INIT on CPU 1, call 5"
    host.module.reset()
    restored = TdxModule.from_json(json.loads(json.dumps(host.module.to_json())))
    assert restored.idle_faults == (shadow, late), "what struck before a reset did strike"


# --- reset and snapshots


def test_reset_is_power_on() -> None:
    host = Host.of(ModuleConfig(faults=(FaultRule("TDH.SYS.RD", "gp", call=100),)))
    fresh = host.module.to_json()
    host.bring_up()
    assert host.module.to_json() != fresh
    host.module.reset()
    assert host.module.to_json() == fresh
    host.bring_up()


def test_disable_does_not_make_faults_count_anew() -> None:
    host = Host.of(ModuleConfig(faults=(FaultRule("TDH.SYS.INIT", "gp", call=2),)))
    host.succeed("TDH.SYS.INIT")
    host.succeed("TDH.SYS.DISABLE")
    assert seamcall(host, 33) == Fault("gp")


def test_a_restored_module_is_the_one_that_was_saved() -> None:
    host = Host.of(ModuleConfig(faults=(FaultRule("TDH.SYS.RD", "gp", call=20),)))
    host.init()
    host.config()
    host.configure_keys()
    host.succeed("TDH.SYS.TDMR.INIT", rcx=0)
    saved = json.dumps(host.module.to_json())
    restored = TdxModule.from_json(json.loads(saved))
    assert restored.summary == host.module.summary
    assert restored.to_json() == json.loads(saved)
    other = replace(host, module=restored)
    other.init_tdmrs()
    assert (other.state, host.state) == ("ready", "keys_configured")
