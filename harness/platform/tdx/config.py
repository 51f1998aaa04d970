"""Which TDX module this is, and what goes wrong with it.

The defaults are those of a module that Linux 7.3 and its kvm_intel.tdx=1 accept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from harness.errors import UsageError
from harness.platform.tdx.leaves import leaf_name, parse_leaf
from harness.platform.tdx.status import parse_status

VMFAIL = "vmfail"
_FAULT_OUTCOMES = (VMFAIL, "gp", "ud")

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
        if self.outcome not in _FAULT_OUTCOMES:
            parse_status(self.outcome)
        if self.call < 1 or (self.times is not None and self.times < 1):
            raise UsageError(f"a fault on {self.leaf} that never happens", expected="call and times from 1 on")

    def concerns(self, leaf: int, lp: int) -> bool:
        """Whether a call of `leaf` on `lp` counts for this rule."""
        return parse_leaf(self.leaf) == leaf and self.lp in (None, lp)

    def strikes(self, nth: int) -> bool:
        """Whether the nth call that counts is one that goes wrong."""
        return nth >= self.call and (self.times is None or nth < self.call + self.times)


@dataclass(frozen=True)
class ModuleConfig:
    """One TDX module on one platform."""

    version: tuple[int, int, int] = (1, 5, 6)  # major, minor, update: "Module version: 1.5.06"
    features0: int = FEATURE_NO_RBP_MOD | FEATURE_TOPOLOGY_ENUM | FEATURE_SYS_DISABLE
    metadata: Mapping[str, int] = field(default_factory=dict)  # field name or id -> the value it has instead
    missing_metadata: frozenset[str] = frozenset()  # field names or ids that the module does not know
    mktme_keyids: int = 15  # IA32_MKTME_KEYID_PARTITIONING bits 31:0
    tdx_keyids: int = 16  # … bits 63:32: private KeyIDs 16-31, Linux takes 16 as the global one
    # Physical address bits with KeyID, and where the KeyID begins. 40 is what TCG's CPUs report, and thus
    # where Linux puts KeyIDs (mk_keyed_paddr); 46 is what the server CPUs with TDX have at least.
    max_pa_bits: int = 46
    keyid_start_bit: int = 40
    faults: tuple[FaultRule, ...] = ()

    @property
    def keyid_partitioning(self) -> int:
        """The value of MSR 0x87 that goes with this module."""
        return self.tdx_keyids << 32 | self.mktme_keyids

    @property
    def private_keyids(self) -> range:
        """KeyIDs only the module may use (check_key_management_config in tdh_sys_init.c)."""
        return range(self.mktme_keyids + 1, self.mktme_keyids + self.tdx_keyids + 1)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"metadata": dict(self.metadata), "missing_metadata": sorted(self.missing_metadata)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModuleConfig:
        names = {item.name for item in fields(cls)}
        values = {name: value for name, value in data.items() if name in names}
        values["version"] = tuple(values["version"])
        values["missing_metadata"] = frozenset(values["missing_metadata"])
        values["faults"] = tuple(FaultRule(**rule) for rule in values["faults"])
        return cls(**values)
