"""Which TDX module this is, and what goes wrong with it.

The defaults are those of a module that Linux 7.3 and its kvm_intel.tdx=1 accept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from harness.errors import UsageError
from harness.platform.tdx.fields import find, parse_field
from harness.platform.tdx.leaves import leaf_name, parse_leaf
from harness.platform.tdx.status import parse_status

_BEFORE_THE_MODULE = ("vmfail", "gp", "ud")  # what SEAMCALL itself does
_ENTRIES_PER_GIB = 1 << 18

# Bits of TDX_FEATURES0 (metadata field 0A00000300000008): tdx_features_enum0_t in
# src/common/metadata_handlers/metadata_sys.h; 53 from the draft ABI, as quoted on LKML in March 2026.
FEATURE_NO_RBP_MOD = 1 << 18  # without it Linux refuses the module (check_features)
FEATURE_TOPOLOGY_ENUM = 1 << 20  # without it kvm_intel refuses (arch/x86/kvm/vmx/tdx.c)
FEATURE_SYS_DISABLE = 1 << 53  # TDH.SYS.DISABLE exists; Linux calls it without looking


@dataclass(frozen=True)
class FaultRule:
    """Some calls of one leaf end otherwise than the module's rules say, without any effect on its state.

    Calls are counted per rule, among those of the leaf (and of `lp`, if given), from 1 at every power-on.
    """

    leaf: str  # "TDH.SYS.INIT"
    outcome: str  # a completion status by name or number, or "vmfail" (no module), "gp", "ud"
    lp: int | None = None  # on this logical processor only
    call: int = 1  # the first call that it concerns
    times: int | None = 1  # how many calls in a row; None: all from then on

    def __post_init__(self) -> None:
        object.__setattr__(self, "leaf", leaf_name(parse_leaf(self.leaf)))
        if self.outcome not in _BEFORE_THE_MODULE:
            parse_status(self.outcome)
        if self.call < 1 or (self.times is not None and self.times < 1):
            raise UsageError(f"a fault on {self.leaf} that never happens", expected="call and times from 1 on")

    @property
    def text(self) -> str:
        """For people: TDX_SYS_BUSY by TDH.SYS.LP.INIT on CPU 2, call 1."""
        where = "" if self.lp is None else f" on CPU {self.lp}"
        return f"{self.outcome} by {self.leaf}{where}, call {self.call}"

    def concerns(self, leaf: int, lp: int) -> bool:
        """Whether a call of `leaf` on `lp` counts for this rule."""
        return parse_leaf(self.leaf) == leaf and self.lp in (None, lp)

    def strikes(self, nth: int) -> bool:
        """Whether the nth call that counts is one that goes wrong."""
        return nth >= self.call and (self.times is None or nth < self.call + self.times)


@dataclass(frozen=True)
class ModuleConfig:
    """One TDX module on one platform."""

    loaded: bool = True  # False: every SEAMCALL fails with VMfailInvalid
    version: tuple[int, int, int] = (1, 5, 6)  # major, minor, update: "Module version: 1.5.06"
    features0: int = FEATURE_NO_RBP_MOD | FEATURE_TOPOLOGY_ENUM | FEATURE_SYS_DISABLE
    metadata: Mapping[str, int] = field(default_factory=dict)  # field name or id -> the value it has instead
    missing_metadata: frozenset[str] = frozenset()  # field names or ids that the module does not know
    mktme_keyids: int = 15  # IA32_MKTME_KEYID_PARTITIONING bits 31:0
    tdx_keyids: int = 16  # … bits 63:32: KeyIDs 16-31, of which Linux makes 16 the global one
    # Physical address bits with KeyID, and where the KeyID begins: 40 is what TCG's CPUs report, and thus
    # where Linux puts KeyIDs (mk_keyed_paddr). 52, so that every KeyID that a module may have finds room.
    max_pa_bits: int = 52
    keyid_start_bit: int = 40
    # TDMR_4K_PAMT_INIT_COUNT in tdh_sys_tdmr_init.c: 4 MiB of a TDMR in every call, 256 calls for 1 GiB.
    pamt_entries_per_call: int = 1024
    faults: tuple[FaultRule, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        for name, value in self.metadata.items():
            _check_value(name, value)
        for name in self.missing_metadata:
            next(parse_field(name))
        if self.pamt_entries_per_call < 1 or _ENTRIES_PER_GIB % self.pamt_entries_per_call:
            raise UsageError(
                "pamt_entries_per_call must divide a GiB's 4 KiB pages", found=str(self.pamt_entries_per_call)
            )

    @property
    def keyid_partitioning(self) -> int:
        """The value of the MSR IA32_MKTME_KEYID_PARTITIONING (0x87) that goes with this module."""
        return self.tdx_keyids << 32 | self.mktme_keyids

    @property
    def private_keyid_range(self) -> range:
        """The KeyIDs that only the module may use (check_key_management_config in tdh_sys_init.c)."""
        return range(self.mktme_keyids + 1, self.mktme_keyids + 1 + self.tdx_keyids)

    def to_json(self) -> dict[str, Any]:
        """A value that json.dumps takes."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return values | {
            "version": list(self.version),
            "metadata": dict(self.metadata),
            "missing_metadata": sorted(self.missing_metadata),
            "faults": [asdict(rule) for rule in self.faults],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModuleConfig:
        """The configuration that `to_json` wrote."""
        special = {
            "version": tuple(data["version"]),
            "missing_metadata": frozenset(data["missing_metadata"]),
            "faults": tuple(FaultRule(**rule) for rule in data["faults"]),
        }
        return cls(**{**data, **special})


def _check_value(name: str, value: int) -> None:
    """UsageError unless the field exists and has room for the value."""
    found = find(next(parse_field(name)))
    if found and not 0 <= value <= found[0].mask:
        raise UsageError(
            f"value of the TDX metadata field {name}", expected=f"0..{found[0].mask:#x}", found=f"{value:#x}"
        )
