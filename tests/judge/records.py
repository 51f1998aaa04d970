"""Small run records, made by hand: a scenario's text, and the events and samples that it is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.guest.outcome import OK, Outcome
from harness.judge.record import Fault, Hold, RunRecord
from harness.judge.verdict import ClaimVerdict
from harness.observe.console_log import ConsoleLog
from harness.observe.sample import AT_RESET, Sample
from harness.probes.event import Event
from harness.scenario.kinds import Phase
from harness.scenario.load import build_scenario
from harness.scenario.yaml_file import parse_yaml

HEAD = """\
title: t
claims: [{id: c, text: it holds, source: here}]
kernels: [debian:6.12]
machine: {cpus: 2}
trace: [on, off, {function: late, fetch: {state: "%di"}}]
steps:
  - load: kvm_vendor
  - sample: loaded
  - unload: kvm_vendor
expect:
"""


def event(
    seq: int | None,
    cpu: int,
    name: str,
    phase: Phase = "call",
    ret: int | None = None,
    boot: int = 1,
    **args: str | int,
) -> Event:
    return Event(boot, seq, cpu, "tracefs", name, phase, "cpuhp", 7, args, ret)


def step(name: str, begin: int, end: int | None) -> list[Event]:
    marks = [event(begin, 0, name, "begin")]
    return marks if end is None else [*marks, event(end, 0, name, "end")]


def outcome(name: str, result: str = OK, online: tuple[int, ...] = (0, 1)) -> Outcome:
    return Outcome(name, name, 1, result, 0.1, online)


def sample(name: str, on: Sequence[int], online: tuple[int, ...] = (0, 1), **guest: object) -> Sample:
    return Sample(name, 1, {cpu: cpu in on for cpu in (0, 1)}, {}, online, guest)


def emulated(name: str, vmxe: Sequence[int], root: Sequence[int]) -> Sample:
    """A sample of the emulated platform, at a reset: CPUs with CR4.VMXE set, and CPUs in VMX operation."""
    vmx = {str(cpu): {"root": int(cpu in root), "vmcs": "0xffffffffffffffff"} for cpu in (0, 1)}
    return replace(sample(name, vmxe), platform={"vmx": vmx, "tdx": None})


def record(
    expect: str,
    events: Sequence[Event] = (),
    samples: Sequence[Sample] = (),
    outcomes: Sequence[Outcome] = (outcome("load"), outcome("unload")),
    console: str = "",
    lost: dict[int, int] | None = None,
    complete: frozenset[int] = frozenset({1}),
    fault: Fault | None = None,
    armed: tuple[str, ...] = ("on", "off", "late"),
    head: str = HEAD,
    holds: Sequence[Hold] = (),
    waiting: Sequence[int] = (),
    by_platform: Sequence[str] = (),
) -> RunRecord:
    """A record of a run of HEAD with the expectations `expect` (YAML list items)."""
    return RunRecord(
        folder=Path("run"),
        name="t",
        scenario=build_scenario(parse_yaml(Path("t.yaml"), head + expect)),
        kernel={"spec": "debian:6.12", "label": "debian:6.12", "release": "6.12.95", "version": "6.12.95"},
        engine="tcg-svm",
        vendor="svm",
        online=(0, 1),
        armed=armed,
        events=tuple(events),
        samples={s.name: s for s in samples},
        resets={s.boot: s for s in samples if s.name == AT_RESET},
        outcomes={o.id: o for o in outcomes},
        console=ConsoleLog.parse(console),
        lost=lost or {},
        complete=complete,
        fault=fault,
        holds=tuple(holds),
        waiting=frozenset(waiting),
        by_platform=frozenset(by_platform),
    )


def only(verdicts: Sequence[ClaimVerdict]) -> ClaimVerdict:
    assert len(verdicts) == 1
    return verdicts[0]
