"""What holds whatever the host calls: judged by an account of the legal history that knows nothing of the module."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field
from itertools import pairwise
from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st

from harness.platform.tdx import (
    Completion,
    Done,
    Fault,
    FaultRule,
    Layout,
    ModuleConfig,
    Registers,
    TdxModule,
    VmFailInvalid,
    pc_cmrs,
)
from harness.platform.tdx.layout import GIB, MIB, PAGE
from harness.platform.tdx.leaves import LEAF_NUMBERS
from harness.platform.tdx.status import Refused
from harness.platform.tdx.tdmr import Candidate, Limits, TdmrInfo, check_tdmr
from tests.platform.tdx.host import Host, construct_tdmrs, memblock

PACKAGES = {0: 0, 1: 0, 2: 1}
MEMORY = 4 * GIB
TDMRS = {info.base: info.size for info in construct_tdmrs(memblock(MEMORY))}
ENTRIES_PER_GIB = 1 << 18
U64 = (1 << 64) - 1


@dataclass(frozen=True)
class Step:
    """A SEAMCALL to make."""

    leaf: str
    lp: int = 0
    operands: tuple[tuple[str, int], ...] = ()
    extra: int = 0  # bits of RAX besides the leaf

    def registers(self) -> Registers:
        return Registers(rax=LEAF_NUMBERS[self.leaf] | self.extra, **dict(self.operands))


def with_operands(**operands: int) -> tuple[tuple[str, int], ...]:
    return tuple(operands.items())


BRING_UP: list[Step] = [
    Step("TDH.SYS.INIT"),
    *(Step("TDH.SYS.LP.INIT", lp) for lp in PACKAGES),
    Step("TDH.SYS.RD", operands=with_operands(rdx=0x9100000100000008)),
    Step("TDH.SYS.CONFIG", operands=with_operands(rcx=0x1000000, rdx=len(TDMRS), r8=16)),  # as Host.place() has it
    Step("TDH.SYS.KEY.CONFIG", 0),
    Step("TDH.SYS.KEY.CONFIG", 2),
    *(
        Step("TDH.SYS.TDMR.INIT", operands=with_operands(rcx=base))
        for base, size in TDMRS.items()
        for _ in range(size // GIB)
    ),
    Step("TDH.PHYMEM.PAGE.RDMD", operands=with_operands(rcx=MIB)),
]
LAST_WORDS = [
    Step("TDH.SYS.SHUTDOWN", operands=with_operands(rcx=1)),
    Step("TDH.SYS.DISABLE", 1),
    Step("TDH.SYS.UPDATE"),
    Step("TDH.SYS.LP.SHUTDOWN"),
]

numbers = st.one_of(
    st.integers(0, U64),
    st.sampled_from([0, 1, PAGE, MIB, GIB, 3 * GIB, 4 * GIB, 1 << 40, 1 << 52, 1 << 63, U64, 0x1000000, 16]),
)
names = st.sampled_from(["rcx", "rdx", "r8", "r9", "r10", "r11"])
wild = st.builds(
    Step,
    st.sampled_from(sorted(LEAF_NUMBERS)),
    st.integers(0, 3),
    st.dictionaries(names, numbers).map(lambda operands: tuple(operands.items())),
    st.sampled_from([0] * 6 + [1 << 16, 1 << 24, 1 << 63]),
)
steps = st.one_of(st.sampled_from(BRING_UP), st.sampled_from(BRING_UP + LAST_WORDS), wild)


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    """The kernel's calls, with some left out, some made twice, and others in between."""
    history: list[Step] = []
    for step in BRING_UP:
        history += [step] * draw(st.sampled_from([1] * 10 + [0, 2]))
        history += draw(st.lists(steps, max_size=1))
    return history + draw(st.lists(steps, max_size=12))


anything = st.one_of(histories(), st.lists(steps, max_size=30), st.permutations(BRING_UP))


@dataclass
class Account:
    """The legal history since power-on or TDH.SYS.DISABLE, from what succeeded."""

    done: list[str] = field(default_factory=list)
    lps: set[int] = field(default_factory=set)
    packages: set[int] = field(default_factory=set)
    gib: dict[int, int] = field(default_factory=dict)  # how many of a TDMR are initialized

    def enter(self, step: Step, completion: Completion) -> None:
        """Fails if a call succeeded that should not have."""
        if not isinstance(completion, Done) or completion.registers.rax:
            return
        rule = self.RULES.get(step.leaf)
        if step.leaf == "TDH.SYS.DISABLE":
            vars(self).update(vars(Account()))
        elif rule is not None:
            assert "TDH.SYS.SHUTDOWN" not in self.done
            rule(self, step)
            self.done.append(step.leaf)

    def _init(self, step: Step) -> None:
        assert not self.done

    def _lp_init(self, step: Step) -> None:
        assert set(self.done) <= {"TDH.SYS.INIT", "TDH.SYS.LP.INIT"} and self.done
        assert step.lp not in self.lps
        self.lps.add(step.lp)

    def _config(self, step: Step) -> None:
        assert self.lps == set(PACKAGES) and "TDH.SYS.CONFIG" not in self.done

    def _key_config(self, step: Step) -> None:
        assert "TDH.SYS.CONFIG" in self.done and PACKAGES[step.lp] not in self.packages
        self.packages.add(PACKAGES[step.lp])

    def _tdmr_init(self, step: Step) -> None:
        base = step.registers().rcx
        assert self.has_keys and self.gib.get(base, 0) < TDMRS[base] // GIB
        self.gib[base] = self.gib.get(base, 0) + 1

    def _shutdown(self, step: Step) -> None:
        assert self.has_keys

    RULES: ClassVar[Mapping[str, Callable[[Account, Step], None]]] = {
        "TDH.SYS.INIT": _init,
        "TDH.SYS.LP.INIT": _lp_init,
        "TDH.SYS.CONFIG": _config,
        "TDH.SYS.KEY.CONFIG": _key_config,
        "TDH.SYS.TDMR.INIT": _tdmr_init,
        "TDH.SYS.SHUTDOWN": _shutdown,
    }

    @property
    def has_keys(self) -> bool:
        return self.packages == set(PACKAGES.values())

    @property
    def is_ready(self) -> bool:
        initialized = {base: gib * GIB for base, gib in self.gib.items()} == TDMRS
        return self.has_keys and initialized and "TDH.SYS.SHUTDOWN" not in self.done


def a_host(*faults: FaultRule) -> Host:
    host = Host.of(
        ModuleConfig(pamt_entries_per_call=ENTRIES_PER_GIB, faults=faults), packages=PACKAGES, memory=MEMORY
    )
    host.place(construct_tdmrs(memblock(MEMORY)))
    return host


def check_shape(completion: Completion) -> None:
    if isinstance(completion, Done):
        assert all(0 <= value <= U64 for value in astuple(completion.registers))
    else:
        assert isinstance(completion, VmFailInvalid | Fault)


@given(anything)
def test_only_the_legal_history_makes_it_ready(history: list[Step]) -> None:
    host, account = a_host(), Account()
    for step in history:
        completion = host.module.seamcall(step.lp, step.registers(), host.ram)
        check_shape(completion)
        # RDALL and INFO write where the operands say: to the arrays, too.
        host.place(construct_tdmrs(memblock(MEMORY)))
        account.enter(step, completion)
        assert (host.state == "ready") == account.is_ready
        assert set(host.module.summary["lp_initialized"]) == account.lps


def test_the_account_finds_the_kernels_history_legal() -> None:
    host, account = a_host(), Account()
    for step in BRING_UP:
        account.enter(step, host.module.seamcall(step.lp, step.registers(), host.ram))
    assert account.is_ready and host.state == "ready"


outcomes = st.sampled_from(["vmfail", "gp", "ud", "TDX_SYS_BUSY", "TDX_RND_NO_ENTROPY"])
rules = st.builds(
    FaultRule,
    st.sampled_from([step.leaf for step in BRING_UP] + ["TDH.MNG.CREATE"]),
    outcomes,
    st.none() | st.integers(0, 2),
    st.integers(1, 3),
    st.none() | st.integers(1, 3),
)


@given(anything, st.lists(rules, max_size=3), st.data())
def test_a_snapshot_at_any_moment_goes_on_alike(
    history: list[Step], faults: list[FaultRule], data: st.DataObject
) -> None:
    host = a_host(*faults)
    saved_at = data.draw(st.integers(0, len(history)))
    for step in history[:saved_at]:
        host.module.seamcall(step.lp, step.registers(), host.ram)
    restored = TdxModule.from_json(json.loads(json.dumps(host.module.to_json())))
    for step in history[saved_at:]:
        twin = restored.seamcall(step.lp, step.registers(), host.ram)
        assert twin == host.module.seamcall(step.lp, step.registers(), host.ram)
        assert restored.summary == host.module.summary
    assert restored.to_json() == host.module.to_json()


@given(anything, st.lists(rules, max_size=3))
def test_faults_never_help(history: list[Step], faults: list[FaultRule]) -> None:
    host, account = a_host(*faults), Account()
    for step in history:
        completion = host.module.seamcall(step.lp, step.registers(), host.ram)
        check_shape(completion)
        host.place(construct_tdmrs(memblock(MEMORY)))
        account.enter(step, completion)
        assert (host.state == "ready") == account.is_ready


class Noise:
    """Memory that reads as something else every time, or not at all."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def read(self, pa: int, length: int) -> bytes | None:
        kind = self._random.randrange(4)
        if kind == 0:
            return None
        # Multiples of a GiB get further in the checks than any bytes.
        words = (
            self._random.getrandbits(64) if kind == 1 else self._random.randrange(8) * GIB for _ in range(length)
        )
        return b"".join(word.to_bytes(8, "little") for word in words)[:length]

    def write(self, pa: int, data: bytes) -> bool:
        return self._random.random() < 0.5


@given(histories(), st.integers())
def test_no_memory_crashes_it(history: list[Step], seed: int) -> None:
    module = TdxModule(ModuleConfig(pamt_entries_per_call=ENTRIES_PER_GIB), Layout(PACKAGES, pc_cmrs(MEMORY)))
    noise = Noise(seed)
    for step in history:
        check_shape(module.seamcall(step.lp, step.registers(), noise))


# --- TDMRs: the checks against a description of what they are for

LIMITS = Limits(pc_cmrs(MEMORY), pa_bits=40, pamt_entry_sizes=(16, 16, 16))
deltas = st.sampled_from([-GIB, -MIB, -PAGE, -512, 512, PAGE, MIB, 32 * MIB, GIB, 1 << 40, 1 << 63])


@st.composite
def tdmr_lists(draw: st.DrawFn) -> list[TdmrInfo]:
    """Linux' TDMRs with some words moved a little."""
    infos = construct_tdmrs(memblock(MEMORY))
    for _ in range(draw(st.integers(0, 3))):
        number = draw(st.integers(0, len(infos) - 1))
        data = bytearray(infos[number].pack())
        place = 8 * draw(st.integers(0, 15))  # base, size, the PAMTs, four reserved areas
        word = int.from_bytes(data[place : place + 8], "little")
        moved = draw(st.one_of(st.just(0), deltas.map(word.__add__), numbers)) & U64
        data[place : place + 8] = moved.to_bytes(8, "little")
        infos[number] = TdmrInfo.parse(bytes(data))
    return infos


def are_accepted(infos: list[TdmrInfo]) -> bool:
    try:
        for number, info in enumerate(infos):
            check_tdmr(Candidate(infos[:number], info, LIMITS))
    except Refused:
        return False
    return True


def are_fit(infos: list[TdmrInfo]) -> bool:
    """Whole GiB in order; PAMTs large enough; PAMTs and what TDs may use are separate memory."""
    reserved = [[area for area in info.reserved if area[1]] for info in infos]
    if any(list(info.reserved[: len(areas)]) != areas for info, areas in zip(infos, reserved, strict=True)):
        return False
    spans = [(info.base, info.base + info.size) for info in infos]
    pamts = [(base, base + size) for info in infos for base, size in info.pamts]
    holes = [
        [(info.base + offset, info.base + offset + size) for offset, size in areas]
        for info, areas in zip(infos, reserved, strict=True)
    ]
    used = [gap for span, inside in zip(spans, holes, strict=True) for gap in gaps(span, inside)]
    return (
        all(ascend(ranges) for ranges in (spans, *holes))
        and all(start % GIB == end % GIB == 0 and start < end for start, end in spans)
        and all(
            first <= start and end <= last
            for (first, last), inside in zip(spans, holes, strict=True)
            for start, end in inside
        )
        and all(start % PAGE == end % PAGE == 0 for ranges in (pamts, *holes) for start, end in ranges)
        and all(end <= 1 << 40 for _, end in spans + pamts)
        and all(
            size >= info.size // page * 16
            for info in infos
            for (_, size), page in zip(info.pamts, (PAGE, 2 * MIB, GIB), strict=True)
        )
        and ascend(sorted(pamts + used))
        and all(
            any(base <= start and end <= base + size for base, size in LIMITS.cmrs) for start, end in pamts + used
        )
    )


def ascend(ranges: list[tuple[int, int]]) -> bool:
    return all(end <= start for (_, end), (start, _) in pairwise(ranges))


def gaps(span: tuple[int, int], holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    edges = [span[0], *(edge for hole in holes for edge in hole), span[1]]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]


@given(tdmr_lists())
def test_tdmrs_are_accepted_if_and_only_if_they_are_fit(infos: list[TdmrInfo]) -> None:
    assert are_accepted(infos) == are_fit(infos)
