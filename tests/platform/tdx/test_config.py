from __future__ import annotations

import json
from typing import Any

import pytest

from harness.errors import UsageError
from harness.platform.tdx import FaultRule, ModuleConfig


def test_the_keyids_are_those_of_the_msr() -> None:
    config = ModuleConfig(mktme_keyids=15, tdx_keyids=16)
    assert config.keyid_partitioning == 0x10_0000_000F
    assert config.private_keyid_range == range(16, 32)


@pytest.mark.parametrize(
    "rule",
    [
        {"leaf": "TDH.SYS.INITT", "outcome": "TDX_SYS_BUSY"},
        {"leaf": "TDH.SYS.INIT", "outcome": "TDX_BUSY"},
        {"leaf": "TDH.SYS.INIT", "outcome": "gp fault"},
        {"leaf": "TDH.SYS.INIT", "outcome": "gp", "call": 0},
        {"leaf": "TDH.SYS.INIT", "outcome": "gp", "times": 0},
    ],
)
def test_a_fault_rule_that_cannot_be(rule: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        FaultRule(**rule)


@pytest.mark.parametrize("outcome", ["vmfail", "gp", "ud", "TDX_SYS_BUSY", "0x8000020200000000", "1"])
def test_outcomes_of_a_fault_rule(outcome: str) -> None:
    assert FaultRule("TDH.SYS.INIT", outcome).outcome == outcome


def test_a_leaf_has_one_spelling() -> None:
    assert FaultRule("TDH_SYS_INIT", "gp") == FaultRule("tdh.sys.init", "gp")


def test_whom_a_rule_concerns() -> None:
    anywhere, second = FaultRule("TDH.SYS.LP.INIT", "gp"), FaultRule("TDH.SYS.LP.INIT", "gp", lp=1)
    assert anywhere.concerns(35, 0) and anywhere.concerns(35, 1) and not anywhere.concerns(33, 0)
    assert second.concerns(35, 1) and not second.concerns(35, 0)


@pytest.mark.parametrize(
    ("call", "times", "struck"),
    [(1, 1, [1]), (3, 1, [3]), (2, 3, [2, 3, 4]), (1, None, [1, 2, 3, 4, 5, 6]), (5, None, [5, 6])],
)
def test_which_calls_a_rule_strikes(call: int, times: int | None, struck: list[int]) -> None:
    rule = FaultRule("TDH.SYS.INIT", "gp", call=call, times=times)
    assert [nth for nth in range(1, 7) if rule.strikes(nth)] == struck


@pytest.mark.parametrize(
    "config",
    [
        {"metadata": {"MAX_TDMR": 1}},
        {"metadata": {"0x1234": 1}},
        {"metadata": {"MAX_TDMRS": 1 << 16}},
        {"metadata": {"MAX_TDMRS": -1}},
        {"missing_metadata": frozenset({"FEATURES0"})},
        {"pamt_entries_per_call": 0},
        {"pamt_entries_per_call": 1000},
    ],
)
def test_a_module_that_cannot_be(config: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ModuleConfig(**config)


def test_a_misspelt_field_gets_a_hint() -> None:
    with pytest.raises(UsageError, match="MAX_TDMRS"):
        ModuleConfig(metadata={"MAX_TDMR": 1})


@pytest.mark.parametrize(
    "config",
    [
        ModuleConfig(),
        ModuleConfig(
            loaded=False,
            version=(2, 0, 8),
            metadata={"MAX_TDMRS": 8, "0x9900000100000008": 2},
            missing_metadata=frozenset({"TDX_FEATURES0"}),
            tdx_keyids=1,
            faults=(FaultRule("TDH.SYS.INIT", "gp"), FaultRule("TDH.SYS.RD", "TDX_SYS_BUSY", 3, 2, None)),
        ),
    ],
)
def test_json_round_trip(config: ModuleConfig) -> None:
    assert ModuleConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
