"""The module behind SEAMCALL: which calls reach a handler, and what they leave in the registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.platform.tdx import bringup, enumeration, leaves, phymem
from harness.platform.tdx.call import Call, Outcome
from harness.platform.tdx.config import FEATURE_SYS_DISABLE, FaultRule, ModuleConfig
from harness.platform.tdx.fields import NO_FIELD
from harness.platform.tdx.layout import Layout
from harness.platform.tdx.metadata import Metadata
from harness.platform.tdx.seamcall import Completion, Done, Fault, Memory, Registers, VmFailInvalid
from harness.platform.tdx.state import State, SysState
from harness.platform.tdx.status import Operand, Refused, parse_status, refusal

_LEAF = 0xFFFF


@dataclass(frozen=True)
class _Entry:
    """How a leaf is called (tdx_vmm_dispatcher.c)."""

    handler: Callable[[Call], Outcome]
    outputs: Mapping[str, int] = field(default_factory=dict)  # registers that it sets first, whatever becomes of it
    before_ready: bool = True  # also allowed before SYS_READY


_NOTHING_FOUND = dict.fromkeys(("rcx", "rdx", "r8", "r9", "r10", "r11"), 0)
_ENTRIES: Mapping[int, _Entry] = {
    leaves.SYS_INIT: _Entry(bringup.sys_init, dict.fromkeys(("rcx", "rdx", "r8", "r9", "r10"), 0)),
    leaves.SYS_LP_INIT: _Entry(bringup.sys_lp_init, dict.fromkeys(("rcx", "rdx", "r8"), 0)),
    leaves.SYS_CONFIG: _Entry(bringup.sys_config),
    leaves.SYS_KEY_CONFIG: _Entry(bringup.sys_key_config),
    leaves.SYS_TDMR_INIT: _Entry(bringup.sys_tdmr_init, {"rdx": 0}, before_ready=False),
    leaves.SYS_LP_SHUTDOWN: _Entry(bringup.sys_lp_shutdown),
    leaves.SYS_SHUTDOWN: _Entry(bringup.sys_shutdown, before_ready=False),
    leaves.SYS_UPDATE: _Entry(bringup.sys_update),
    leaves.SYS_DISABLE: _Entry(bringup.sys_disable),
    leaves.SYS_RD: _Entry(enumeration.sys_rd, {"rdx": NO_FIELD, "r8": 0}),
    leaves.SYS_RDALL: _Entry(enumeration.sys_rdall, {"r8": NO_FIELD}),
    leaves.SYS_INFO: _Entry(enumeration.sys_info, {"rdx": 0, "r9": 0}),
    leaves.PHYMEM_PAGE_RDMD: _Entry(phymem.page_rdmd, _NOTHING_FOUND, before_ready=False),
    leaves.PHYMEM_PAGE_WBINVD: _Entry(phymem.page_wbinvd, before_ready=False),
    leaves.PHYMEM_CACHE_WB: _Entry(phymem.cache_wb, before_ready=False),
}
_BEFORE_THE_MODULE: Mapping[str, Completion] = {"vmfail": VmFailInvalid(), "gp": Fault("gp"), "ud": Fault("ud")}


class TdxModule:
    """The TDX module of one machine, from power-on.

    Not thread-safe: the caller has to serialize SEAMCALLs, which is why the module never says TDX_SYS_BUSY or
    TDX_OPERAND_BUSY unless a fault rule does.
    """

    def __init__(self, config: ModuleConfig, layout: Layout) -> None:
        self.config = config
        self.layout = layout
        self._metadata = Metadata(config, layout)
        self._struck: set[int] = set()  # the numbers of the fault rules that ever did
        self._state = self._power_on()

    def seamcall(self, lp: int, registers: Registers, memory: Memory) -> Completion:
        """Answers a SEAMCALL of a logical processor in VMX root operation.

        A SEAMCALL to the P-SEAMLDR (bit 63 of RAX), of a processor that firmware did not find, or without a module,
        is VMfailInvalid, as SEAMCALL itself makes it.
        """
        if not self.config.loaded or registers.rax & leaves.SEAMLDR or lp not in self.layout.packages:
            return VmFailInvalid()
        fault = self._fault(registers.rax & _LEAF, lp)
        if fault is not None:
            return _faulted(fault, registers)
        call = Call(lp, registers, memory, self._state, self.config, self.layout, self._metadata)
        try:
            entry = self._dispatch(registers.rax)
        except Refused as refused:
            return Done(replace(registers, rax=refused.status))
        return Done(_run(entry, call))

    def reset(self) -> None:
        """The platform was reset: the module is loaded anew, and fault rules count from the start."""
        self._state = self._power_on()

    @property
    def summary(self) -> dict[str, Any]:
        """The state for samples and reports.

        `state` is pending, initialized, configured, keys_configured, ready (every TDMR initialized), shutdown or
        disabled; not_loaded without a module.
        """
        state = self._state
        name = "ready" if state.is_ready else state.sys.value
        return {
            "state": name if self.config.loaded else "not_loaded",
            "lp_initialized": list(state.lps),
            "packages_configured": list(state.packages),
            "global_keyid": state.keyid,
            "tdmrs": len(state.tdmrs),
            "tdmrs_initialized": sum(tdmr.is_initialized for tdmr in state.tdmrs),
        }

    @property
    def idle_faults(self) -> tuple[FaultRule, ...]:
        """The fault rules that have not struck since the machine was made: what was to go wrong did not."""
        return tuple(rule for number, rule in enumerate(self.config.faults) if number not in self._struck)

    def to_json(self) -> dict[str, Any]:
        """All of it, for a snapshot: a value that json.dumps takes."""
        return {
            "config": self.config.to_json(),
            "layout": self.layout.to_json(),
            "state": self._state.to_json(),
            "struck": sorted(self._struck),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TdxModule:
        """The module that `to_json` wrote."""
        module = cls(ModuleConfig.from_json(data["config"]), Layout.from_json(data["layout"]))
        module._state = State.from_json(data["state"])
        module._struck = set(data["struck"])
        return module

    def _power_on(self) -> State:
        return State(calls=[0] * len(self.config.faults))

    def _fault(self, leaf: int, lp: int) -> str | None:
        """Counts the call for every rule that it concerns; what the first rule that strikes makes of it."""
        outcome = None
        for number, rule in enumerate(self.config.faults):
            if not rule.concerns(leaf, lp):
                continue
            self._state.calls[number] += 1
            if outcome is None and rule.strikes(self._state.calls[number]):
                outcome = rule.outcome
                self._struck.add(number)
        return outcome

    def _dispatch(self, rax: int) -> _Entry:
        """tdx_vmm_dispatcher: raises Refused for what never reaches a handler, in its order."""
        leaf = rax & _LEAF
        if rax & ~_LEAF:  # a version, which only leaves of TDs and one of TDH.SYS.INIT's have, or reserved bits
            raise refusal("TDX_OPERAND_INVALID", Operand.RAX)
        state = self._state.sys
        if state is SysState.SHUTDOWN and leaf != leaves.SYS_LP_SHUTDOWN:
            raise refusal("TDX_SYS_SHUTDOWN")
        entry = _ENTRIES.get(leaf)
        if leaf == leaves.SYS_DISABLE and not self.config.features0 & FEATURE_SYS_DISABLE:
            entry = None
        if state is not SysState.READY and not (entry and entry.before_ready):
            raise refusal("TDX_SYS_NOT_READY")
        if entry is None:
            raise refusal("TDX_OPERAND_INVALID", Operand.RAX)
        return entry


def _run(entry: _Entry, call: Call) -> Registers:
    try:
        outcome = entry.handler(call)
    except Refused as refused:
        outcome = Outcome(refused.status)
    return replace(call.registers, **{**entry.outputs, **outcome.outputs, "rax": outcome.status})


def _faulted(outcome: str, registers: Registers) -> Completion:
    return _BEFORE_THE_MODULE.get(outcome) or Done(replace(registers, rax=parse_status(outcome)))
