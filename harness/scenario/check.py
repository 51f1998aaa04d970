"""Cross-references within a scenario: every id that is used exists, and everything declared is used."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Mapping

from harness.platform.tdx.leaves import LEAF_NUMBERS, SEAMLDR_NAMES
from harness.platform.tdx.status import STATUS_CODES, status_name
from harness.scenario.expectations import Arguments, Count, ExitStatus, InWindow, Splat, State
from harness.scenario.faults import Faults
from harness.scenario.kinds import AWAY, Selector
from harness.scenario.model import Scenario
from harness.scenario.platform_events import FAILURES, PLATFORM_EVENTS
from harness.scenario.sequence import Sequence, unknown
from harness.scenario.steps import Boot, Hold, Offline, Online, Plug, Release, Sample, Start, Suspend, Unplug, Until
from harness.scenario.yaml_file import Location

# Traced in every run, so that a selector may name them without a `trace` entry.
STANDARD_EVENTS = ("cpuhp_enter", "cpuhp_exit", "console")

# What `during` calls the first boot, from the kernel's first instruction to the first step.
BOOT = "boot"

# Samples that the harness takes by itself: with the guest paused at its reset or power-off.
STANDARD_SAMPLES = ("reset", "power-off")


def asleep_sample(step_id: str) -> str:
    """The sample that is taken while the guest sleeps in S3, in the suspend step `step_id`."""
    return f"{step_id}-asleep"


def cross_references(scenario: Scenario, faults: Faults) -> None:
    """Adds a fault for each dangling, duplicate or useless name."""
    of_steps = (_ids, Sequence.check, _points, _awaited, _cpus, _platform)
    of_expectations = (_claims, _expectations, _outcomes, _windows, _fetched, _conditions, _vacuous)
    for checker in (*of_steps, _trace, *of_expectations, _patterns):
        checker(scenario, faults)


def permutations(scenario: Scenario, faults: Faults) -> None:
    """Adds a fault for each order of the steps that is none, or cannot work."""
    ids = Counter(step.id for step in scenario.steps)
    for index, order in enumerate(scenario.permutations):
        if lacking := sorted((ids - Counter(order)).elements()):
            faults.add(("permutations", index), f"a permutation has every step: {', '.join(lacking)} is missing")
        elif surplus := sorted((Counter(order) - ids).elements()):
            faults.add(("permutations", index), *unknown("further step", surplus[0], ids))
    faults.raise_if_any()
    for variant in scenario.variants():
        if variant.variant:
            cross_references(variant, _OfPermutation(faults, variant))


class _OfPermutation(Faults):
    """The faults of one order of the steps, each at its line in `permutations`."""

    def __init__(self, whole: Faults, variant: Scenario) -> None:
        super().__init__(whole.document)
        self._whole = whole
        self._variant = variant

    def add(self, location: Location, what: str, hint: str = "") -> None:
        section, index = location[:2]
        step = f", at {self._variant.steps[index].id!r}" if section == "steps" and isinstance(index, int) else ""
        self._whole.add(("permutations", self._variant.variant - 1), f"in this order{step}: {what}", hint)


def _ids(scenario: Scenario, faults: Faults) -> None:
    counts = Counter(step.id for step in scenario.steps)
    counts.update(scenario.actors.keys())
    for index, step in enumerate(scenario.steps):
        if counts[step.id] > 1:
            faults.add(("steps", index), f"duplicate id {step.id!r}", "give each step and actor an id of its own")
    for index, step in enumerate(scenario.steps):
        if isinstance(step, Sample) and step.name in STANDARD_SAMPLES:
            faults.add(("steps", index), f"the harness takes sample {step.name!r} by itself", "choose another name")
        if step.id == BOOT and not isinstance(step, Boot):
            faults.add(("steps", index), f"`during: {BOOT}` means the first boot", "give the step another id")
    names = Counter(step.name for step in scenario.steps if isinstance(step, Sample))
    for index, step in enumerate(scenario.steps):
        if isinstance(step, Sample) and names[step.name] > 1:
            faults.add(("steps", index), f"duplicate sample {step.name!r}")


def _points(scenario: Scenario, faults: Faults) -> None:
    """What a point's filters speak of is there, and its name is its own: its events have it too."""
    taken = {*(probe.name for probe in scenario.trace), *STANDARD_EVENTS, *PLATFORM_EVENTS}
    for name, point in scenario.points.items():
        where = ("points", name)
        if name in taken:
            faults.add(where, f"{name!r} is the name of a traced event too", "give the point another name")
        if point.actor is not None and point.actor not in scenario.actors:
            faults.add(where, *unknown("actor", point.actor, scenario.actors))
        if point.cpu is not None and point.cpu >= scenario.machine.ceiling:
            faults.add(where, _no_cpu(point.cpu, scenario))


def _awaited(scenario: Scenario, faults: Faults) -> None:
    """An event that is waited for is one that is traced."""
    for index, step in enumerate(scenario.steps):
        if isinstance(step, Until) and step.event is not None:
            _selector(("steps", index), step.event, scenario, faults)


def _cpus(scenario: Scenario, faults: Faults) -> None:
    machine = scenario.machine
    if machine.without_virt >= machine.cpus:
        faults.add(("machine", "without_virt"), f"a CPU with virtualization is needed; cpus is {machine.cpus}")
    if machine.ceiling < machine.cpus:
        faults.add(("machine", "max_cpus"), f"max_cpus {machine.ceiling} is less than cpus {machine.cpus}")
    if machine.cpus % machine.sockets:
        faults.add(("machine", "sockets"), f"{machine.cpus} cpus do not fill {machine.sockets} sockets evenly")
    for index, step in enumerate(scenario.steps):
        if isinstance(step, (Offline, Online, Plug, Unplug)) and step.target >= machine.ceiling:
            hint = "raise machine: max_cpus" if isinstance(step, (Plug, Unplug)) else "raise machine: cpus"
            faults.add(("steps", index), _no_cpu(step.target, scenario), hint)


def _no_cpu(cpu: int, scenario: Scenario) -> str:
    return f"there is no CPU {cpu}: the machine has CPUs 0-{scenario.machine.ceiling - 1}"


def _platform(scenario: Scenario, faults: Faults) -> None:
    """The emulated platform is one of VMX, and its CPUs are those of the machine."""
    machine = scenario.machine
    for key, section in (("cpu", machine.cpu), ("tdx", machine.tdx)):
        if section is not None and machine.virt != "vmx":
            faults.add(("machine", key), f"`{key}` is for CPUs with VMX", "add `virt: vmx` to the machine")
    for cpu in sorted(machine.cpu.cpus if machine.cpu else ()):
        if cpu >= machine.ceiling:
            faults.add(("machine", "cpu"), _no_cpu(cpu, scenario))
    for index, fault in enumerate(machine.tdx.faults if machine.tdx else ()):
        if fault.cpu is not None and fault.cpu >= machine.ceiling:
            faults.add(("machine", "tdx", "faults", index), _no_cpu(fault.cpu, scenario))


def _claims(scenario: Scenario, faults: Faults) -> None:
    ids = [use.claim.id for use in scenario.claims]
    for index, claim in enumerate(ids):
        if ids.count(claim) > 1:
            faults.add(("claims", index), f"duplicate claim {claim!r}")
    decided = {expectation.claim for expectation in scenario.expect}
    only = len(ids) == 1
    for index, expectation in enumerate(scenario.expect):
        if expectation.claim and expectation.claim not in ids:
            faults.add(("expect", index), *unknown("claim", expectation.claim, ids))
        elif not expectation.claim and not only:
            faults.add(
                ("expect", index), "which claim does this decide?", "add `claim:` with one of " + ", ".join(ids)
            )
    for index, claim in enumerate(ids):
        if claim not in decided and not (only and "" in decided):
            faults.add(("claims", index), f"no expectation decides claim {claim!r}")


# Steps that are done by the harness alone leave no marks in the trace.
_UNMARKED = (Sample, Boot, Start, Until, Hold, Release)


def _windows(scenario: Scenario, faults: Faults) -> None:
    places = {step.id: index for index, step in enumerate(scenario.steps) if step.id != BOOT}
    for index, expectation in enumerate(scenario.expect):
        during = expectation.during if isinstance(expectation, InWindow) else None
        where = ("expect", index, "during")
        for name in during or []:
            if name in places and isinstance(scenario.steps[places[name]], _UNMARKED):
                faults.add(where, f"step {name!r} leaves no marks in the trace", "name a step that acts on the guest")
        if during and all(name in places for name in during) and places[during[0]] > places[during[-1]]:
            faults.add(where, f"step {during[-1]!r} comes before step {during[0]!r}")
        if during and len(during) > 1 and during[-1] == BOOT:
            faults.add(where, f"`{BOOT}` is the first boot: it comes before every step")


def _trace(scenario: Scenario, faults: Faults) -> None:
    """What is traced must not pass for what every run, or every event, has anyhow."""
    for index, probe in enumerate(scenario.trace):
        if probe.function and probe.name in {*PLATFORM_EVENTS, *STANDARD_EVENTS}:
            faults.add(("trace", index), f"{probe.name!r} is an event of its own, and no function's")
        if taken := sorted(probe.fetch.keys() & {*_OF_ALL_EVENTS, "ret"}):
            faults.add(("trace", index), f"every event has {taken[0]!r}", "give the `fetch` another name")


def _fetched(scenario: Scenario, faults: Faults) -> None:
    for index, expectation in enumerate(scenario.expect):
        if not isinstance(expectation, Arguments) or expectation.event.name in STANDARD_EVENTS:
            continue
        if expectation.event.name in PLATFORM_EVENTS:
            known = _arguments_of(expectation.event, scenario) or set()
            if strange := sorted(expectation.are.keys() - known):
                faults.add(("expect", index, "arguments"), *unknown("argument", strange[0], known))
            _values(("expect", index, "arguments"), expectation.event, expectation.are, faults)
            continue
        probes = [probe for probe in scenario.trace if probe.function and probe.name == expectation.event.name]
        for name in expectation.are:
            if probes and not any(name in probe.fetch for probe in probes):
                what = f"no `fetch` of {expectation.event.name} gives {name!r}"
                faults.add(("expect", index, "arguments"), what, "add it to the trace entry")


# What the selectors of every event may ask for, and those of events whose arguments are known beforehand.
_OF_ALL_EVENTS = {"task", "pid"}
_STANDARD_ARGUMENTS = {
    "cpuhp_enter": {"cpu", "target", "step", "function"},
    "cpuhp_exit": {"cpu", "state", "step", "function", "ret"},
    "console": {"text"},
}
_NAMED_VALUES: Mapping[str, Collection[str]] = {
    "leaf": {*LEAF_NUMBERS, *SEAMLDR_NAMES.values()},
    "status": STATUS_CODES,
    "fault": {"UD", "GP"},
}


def _conditions(scenario: Scenario, faults: Faults) -> None:
    """A selector that can match no event would make every `never` hold."""
    for index, expectation in enumerate(scenario.expect):
        for selector in expectation.selectors:
            _selector(("expect", index, expectation.kind), selector, scenario, faults)


def _selector(where: Location, selector: Selector, scenario: Scenario, faults: Faults) -> None:
    events = {probe.name for probe in scenario.trace} | {*STANDARD_EVENTS, *PLATFORM_EVENTS} | scenario.points.keys()
    steps = {step.id for step in scenario.steps} | scenario.actors.keys()
    if selector.of_step and selector.name not in steps:
        faults.add(where, *unknown("step", selector.name, steps))
    elif not selector.of_step and selector.name not in events:
        faults.add(where, *unknown("traced event", selector.name, events))
    if isinstance(selector.cpu, int) and selector.cpu >= scenario.machine.ceiling:
        faults.add(where, f"{selector.text}: {_no_cpu(selector.cpu, scenario)}")
    if selector.phase and _is_moment(selector, scenario):
        faults.add(where, f"{selector.text}: {selector.name} is a moment, with no {selector.phase}")
    if selector.of_point != (selector.name in scenario.points) and selector.phase:
        noun = "a point, which is held, released or lost" if selector.name in scenario.points else "no point"
        faults.add(where, f"{selector.text}: {selector.name} is {noun}")
    _values(where, selector, selector.where, faults)
    known = _arguments_of(selector, scenario)
    if known is not None and (strange := sorted(selector.where.keys() - known)):
        faults.add(where, *unknown(f"argument in {selector.text}:", strange[0], known))


def _is_moment(selector: Selector, scenario: Scenario) -> bool:
    """Whether its events have no phases, which functions and steps have."""
    tracepoints = {probe.name for probe in scenario.trace if probe.tracepoint}
    return not selector.of_step and selector.name in {*PLATFORM_EVENTS, *STANDARD_EVENTS, *tracepoints}


def _values(where: tuple[str | int, ...], selector: Selector, values: Mapping[str, object], faults: Faults) -> None:
    """Names that a platform event has as values are spelt as it has them."""
    for name in values.keys() & _NAMED_VALUES.keys():
        value, known = str(values[name]), _NAMED_VALUES[name]
        if selector.name in PLATFORM_EVENTS and value not in known and not _nameless(value):
            near = ", ".join(difflib.get_close_matches(value, known)) or ", ".join(sorted(known)[:3])
            faults.add(where, f"{selector.name} never has {name}={value}", f"write {near}")


def _nameless(value: str) -> bool:
    """Whether this is a completion status that has no name."""
    try:
        return value.startswith("0x") and status_name(int(value, 0)) not in STATUS_CODES
    except ValueError:
        return False


def _arguments_of(selector: Selector, scenario: Scenario) -> set[str] | None:
    """The arguments that a selector may ask for; None for tracepoints, which the kernel alone knows."""
    if selector.of_step or selector.name in scenario.points:
        return _OF_ALL_EVENTS
    if selector.name in _STANDARD_ARGUMENTS:
        return _STANDARD_ARGUMENTS[selector.name] | _OF_ALL_EVENTS
    if selector.name in PLATFORM_EVENTS:
        return {*PLATFORM_EVENTS[selector.name], *FAILURES} | _OF_ALL_EVENTS
    probes = [probe for probe in scenario.trace if probe.name == selector.name]
    if not probes or any(probe.tracepoint for probe in probes):
        return None
    if selector.phase == "return":
        return {"ret"} | _OF_ALL_EVENTS
    return {name for probe in probes for name in probe.fetch} | _OF_ALL_EVENTS


def _vacuous(scenario: Scenario, faults: Faults) -> None:
    for index, expectation in enumerate(scenario.expect):
        where = ("expect", index, expectation.kind)
        if isinstance(expectation, Count) and expectation.min == 0 and expectation.max is None:
            faults.add(where, "`min: 0` cannot fail", "give `min: 1` or more, `max`, or `is`")
        if isinstance(expectation, (Arguments, State)) and not expectation.are:
            faults.add(where, "`are` names no value: this cannot fail")
        texts = [getattr(expectation, name, None) for name in ("matching", "present", "absent")]
        if "" in texts:
            faults.add(where, "an empty pattern is found in every message")


def _expectations(scenario: Scenario, faults: Faults) -> None:
    steps = {step.id for step in scenario.steps} | scenario.actors.keys()
    samples = {step.name for step in scenario.steps if isinstance(step, Sample)} | set(STANDARD_SAMPLES)
    samples |= {asleep_sample(step.id) for step in scenario.steps if isinstance(step, Suspend) and not step.pm_test}
    for index, expectation in enumerate(scenario.expect):
        where = ("expect", index, expectation.kind)
        windows = set(expectation.during or ()) & {BOOT} if isinstance(expectation, InWindow) else set()
        for name in expectation.step_ids:
            if name not in steps | windows:
                faults.add(where, *unknown("step", name, steps))
        for name in expectation.samples:
            if name not in samples:
                faults.add(where, *unknown("sample", name, samples))
        if isinstance(expectation, ExitStatus) and not expectation.steps:
            faults.add(where, "`exit` names no step")


def _outcomes(scenario: Scenario, faults: Faults) -> None:
    """Only an actor may stay away: a step that does ends the run."""
    awaited = {step.actor for step in scenario.steps if isinstance(step, Until)}
    for index, expectation in enumerate(scenario.expect):
        for name, wanted in expectation.steps.items() if isinstance(expectation, ExitStatus) else ():
            away = sorted(set(wanted) & AWAY)
            if away and name not in scenario.actors:
                what = f"only an actor can be {away[0]}: step {name!r} would end the run"
                faults.add(("expect", index, "exit"), what, "make it an actor")
            elif away and name in awaited:
                what = f"actor {name!r} is waited for: it cannot be {away[0]}"
                faults.add(("expect", index, "exit"), what, f"leave out `until: {name}.exit`")


def _patterns(scenario: Scenario, faults: Faults) -> None:
    for index, step in enumerate(scenario.steps):
        if isinstance(step, Until) and step.dmesg is not None:
            _pattern(("steps", index), step.dmesg, faults)
    for index, expectation in enumerate(scenario.expect):
        fields = ("matching",) if isinstance(expectation, Splat) else ("present", "absent")
        for name in fields:
            _pattern(("expect", index, expectation.kind), getattr(expectation, name, None) or "", faults)


def _pattern(where: Location, pattern: str, faults: Faults) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        faults.add(where, f"{pattern!r} is not a regular expression: {error}")
