"""What the module remembers from one SEAMCALL to the next."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.platform.tdx.layout import GIB
from harness.platform.tdx.tdmr import TdmrInfo


class SysState(enum.StrEnum):
    """sysinit_state_e of src/common/data_structures/tdx_global_data.h, and what TDH.SYS.DISABLE leaves behind."""

    INIT_PENDING = "pending"
    INIT_DONE = "initialized"
    CONFIG_DONE = "configured"
    READY = "keys_configured"  # SYS_READY: TDMRs may be initialized, and those that are may be used
    SHUTDOWN = "shutdown"
    DISABLED = "disabled"  # as good as INIT_PENDING


@dataclass
class Tdmr:
    """A TDMR in the module's table (tdmr_entry_t)."""

    info: TdmrInfo
    initialized_to: int  # its PAMT is initialized up to this address

    @property
    def usable_to(self) -> int:
        """The address up to which whole GiB are initialized: what the host may use."""
        return self.initialized_to // GIB * GIB

    @property
    def is_initialized(self) -> bool:
        return self.initialized_to >= self.info.end

    def covers(self, pa: int) -> bool:
        return self.info.base <= pa < self.info.end


@dataclass
class State:
    """From power-on, or from TDH.SYS.DISABLE."""

    sys: SysState = SysState.INIT_PENDING
    lps: list[int] = field(default_factory=list)  # in the order of their TDH.SYS.LP.INIT
    packages: list[int] = field(default_factory=list)  # in the order of their TDH.SYS.KEY.CONFIG
    keyid: int | None = None  # the global private KeyID
    tdmrs: list[Tdmr] = field(default_factory=list)  # ascending
    calls: list[int] = field(default_factory=list)  # per fault rule, how many calls it has counted

    @property
    def is_ready(self) -> bool:
        """Whether bring-up is complete: keys on all packages, and every TDMR initialized."""
        return self.sys is SysState.READY and all(tdmr.is_initialized for tdmr in self.tdmrs)

    def disable(self) -> None:
        """Forgets all but what fault rules have counted."""
        self.sys, self.keyid = SysState.DISABLED, None
        self.lps, self.packages, self.tdmrs = [], [], []

    def tdmr_at(self, pa: int) -> Tdmr | None:
        """The TDMR that covers an address (get_covering_tdmr_for_hpa, pamt_manager.c)."""
        return next((tdmr for tdmr in self.tdmrs if tdmr.covers(pa)), None)

    def to_json(self) -> dict[str, Any]:
        """A value that json.dumps takes."""
        return {
            "sys": self.sys.value,
            "lps": list(self.lps),
            "packages": list(self.packages),
            "keyid": self.keyid,
            "tdmrs": [{"info": tdmr.info.pack().hex(), "initialized_to": tdmr.initialized_to} for tdmr in self.tdmrs],
            "calls": list(self.calls),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> State:
        """The state that `to_json` wrote."""
        tdmrs = [Tdmr(TdmrInfo.parse(bytes.fromhex(row["info"])), row["initialized_to"]) for row in data["tdmrs"]]
        return cls(
            SysState(data["sys"]),
            list(data["lps"]),
            list(data["packages"]),
            data["keyid"],
            tdmrs,
            list(data["calls"]),
        )
