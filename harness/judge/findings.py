"""From expectations to findings: pure functions of a RunRecord."""

from __future__ import annotations

import errno
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

from harness.guest.outcome import HUNG, OK
from harness.judge.record import Hold, RunRecord
from harness.judge.verdict import Finding, Found
from harness.observe.sample import PLATFORM
from harness.observe.splats import Splat, find_splats, message, stalled
from harness.probes.event import Event, return_text, same_value
from harness.scenario.check import BOOT, STANDARD_EVENTS
from harness.scenario.expectations import (
    Arguments,
    Count,
    Dmesg,
    ExitStatus,
    Expectation,
    InWindow,
    Never,
    Order,
    Returns,
    State,
    Virt,
)
from harness.scenario.expectations import Splat as WantedSplat
from harness.scenario.kinds import Selector
from harness.scenario.platform_events import PLATFORM_EVENTS, SOURCE
from harness.scenario.steps import Reboot, Release


@dataclass(frozen=True)
class Window:
    """The events that an expectation looks at, and whether it saw all of them.

    `loss` says how many events were lost ("" for none): then nothing holds of "every event". `gap` says why an
    absence proves nothing here: such a loss, or a trace that does not reach the window's end. `online` are the CPUs
    online when the window began.
    """

    events: tuple[Event, ...]
    online: tuple[int, ...]
    gap: str
    loss: str


def find(expectation: Expectation, record: RunRecord) -> Found:
    """What `record` says about `expectation`."""
    return replace(_find(expectation, record), expectation=expectation)


def _held(text: str, events: Iterable[Event] = ()) -> Found:
    return Found(Finding.HELD, text, tuple(events))


def _failed(text: str, events: Iterable[Event] = ()) -> Found:
    return Found(Finding.FAILED, text, tuple(events))


def _unseen(text: str, events: Iterable[Event] = ()) -> Found:
    return Found(Finding.UNSEEN, text, tuple(events))


@singledispatch
def _find(expectation: Expectation, record: RunRecord) -> Found:
    raise AssertionError(f"no rule for {type(expectation).__name__}")


# --- windows ---------------------------------------------------------------------------------------------


def window_of(expectation: InWindow, record: RunRecord, selectors: Sequence[Selector]) -> Window | str:
    """The window that `during` names, as far as it was seen for `selectors`; or why there is none."""
    if not record.online:
        return "it is not known which CPUs were online"
    seen = _Sources.of(record, selectors)
    # What would have come to be seen in the rest of the run is not known.
    cut = "the run ended early" if record.fault is not None else ""
    if expectation.during is None:
        boots = {event.boot for event in record.events} | {1}
        return Window(_of_guest(record.events), record.online, seen.gap(boots) or cut, seen.loss(boots))
    first, last = expectation.during[0], expectation.during[-1]
    from_start = first == BOOT
    begin = None if from_start else _step_mark(record, first, "begin")
    if not from_start and (begin is None or begin.order is None):
        return f"step {first!r} did not begin (or its mark was not traced)"
    start = begin.order if begin is not None and begin.order is not None else (_FIRST_BOOT, 0)
    end = _step_mark(record, last, "end")
    inside = [
        event
        for event in (record.events if from_start else _of_guest(record.events))
        if event.order is not None
        and start < event.order
        and (event.boot == start[0] if end is None or end.order is None else event.order < end.order)
    ]
    outcome = None if from_start else record.outcomes.get(first)  # a later boot is a step that has the same name
    boots = set(range(start[0], (end.boot if end else start[0]) + 1))
    loss = seen.loss(boots)
    # The boot in which the window ends was seen up to there; those before it have to be complete.
    gap = (seen.late if from_start else "") or loss or seen.gap(boots - ({end.boot} if end else set()))
    # A step that ends in the reset it asked for has no end mark.
    ended = end is not None or (last in record.outcomes and record.outcomes[last].result == OK)
    return Window(tuple(inside), outcome.online if outcome else record.online, gap or ("" if ended else cut), loss)


_FIRST_BOOT = 1


def _of_guest(events: Sequence[Event]) -> tuple[Event, ...]:
    """Without the functions that ran before the guest was ready, which the platform alone sees.

    A scenario must not depend on what traces its functions, unless it says `during: boot`. The platform's own events
    (VMXON, SEAMCALL …) belong to the run from the beginning.
    """
    ready = {event.boot: event.order for event in events if event.name == BOOT and event.phase == "end"}
    return tuple(
        event
        for event in events
        if event.source != SOURCE
        or event.name in PLATFORM_EVENTS
        or (event.order is not None and event.boot in ready and event.order > (ready[event.boot] or event.order))
    )


def _step_mark(record: RunRecord, step: str, phase: str) -> Event | None:
    return next((event for event in record.events if event.name == step and event.phase == phase), None)


@dataclass(frozen=True)
class _Sources:
    """What the sources of some events saw: tracefs from a boot's shell until its end begins, the platform all."""

    record: RunRecord
    tracefs: bool
    platform: bool

    @classmethod
    def of(cls, record: RunRecord, selectors: Sequence[Selector]) -> _Sources:
        """The sources that events of `selectors` come from; marks of steps are there or there is no window."""
        names = {selector.name for selector in selectors if not selector.of_step}
        return cls(record, bool(names - record.by_platform), bool(names & record.by_platform))

    def loss(self, boots: set[int]) -> str:
        """How many events of these boots were lost; "" for none."""
        counts = [counts for counts, asked in self._counts if asked]
        lost = sum(lost.get(boot, 0) for lost in counts for boot in boots)
        return f"{lost} events were lost" if lost else ""

    def gap(self, boots: set[int]) -> str:
        """Why the absence of an event until the end of these boots proves nothing; "" when it does."""
        if loss := self.loss(boots):
            return loss
        cut = sorted(boots - self.record.complete) if self.tracefs else []
        return f"the trace of boot {cut[0]} does not reach its end" if cut else ""

    @property
    def late(self) -> str:
        """Why the absence of an event before the first step proves nothing."""
        return "the kernel's own trace begins when the guest is ready" if self.tracefs else ""

    @property
    def _counts(self) -> tuple[tuple[Mapping[int, int], bool], ...]:
        return ((self.record.lost, self.tracefs), (self.record.lost_by_platform, self.platform))


def _blind(expectation: InWindow, record: RunRecord, selectors: Sequence[Selector]) -> str:
    """Why events of `selectors` could not have been seen, or not been placed in time; "" when they could."""
    for selector in selectors:
        if selector.name in PLATFORM_EVENTS and selector.name not in record.by_platform:
            return f"engine {record.engine} does not see {selector.name}"
        if not selector.of_step and selector.name not in {*record.armed, *STANDARD_EVENTS, *record.by_platform}:
            return f"kernel {record.kernel['release']} has no probe for {selector.name}"
        unordered = any(event.order is None and event.matches(selector) for event in record.events)
        if unordered and (expectation.during is not None or isinstance(expectation, Order)):
            return f"events of {selector.text} are unordered"
        if "ret" in selector.where and _without_value(record.events, selector):
            return f"kernel {record.kernel['release']} does not tell what {selector.name} returned"
    return ""


def _view(
    expectation: InWindow, record: RunRecord, selectors: Sequence[Selector], also: Iterable[str] = ()
) -> Window | Found:
    """The window in which events of `selectors` can be seen, or the finding that says why they cannot.

    `also` are arguments that must be known beside those that select.
    """
    window = window_of(expectation, record, selectors)
    if isinstance(window, str):
        return _unseen(window)
    reason = _blind(expectation, record, selectors)
    if reason:
        return _unseen(reason)
    for selector in selectors:
        for event in window.events:
            if name := _unread(event, selector, also):
                return _unseen(f"of {_named(event)}, the value of {name} could not be read", [event])
    return window


def _unread(event: Event, selector: Selector, also: Iterable[str]) -> str:
    """Which argument has to be known, and is not, of an event that is otherwise one of the selector's; or ""."""
    unread = [name for name in (*selector.where, *also) if event.unread(name)]
    known = {name: value for name, value in selector.where.items() if name not in unread}
    return unread[0] if unread and event.matches(replace(selector, where=known)) else ""


def _without_value(events: Iterable[Event], selector: Selector) -> bool:
    """Whether returns of this function were traced without $retval, which a kernel may refuse."""
    return any(event.name == selector.name and event.phase == "return" and event.ret is None for event in events)


# --- events ----------------------------------------------------------------------------------------------


@_find.register
def _(order: Order, record: RunRecord) -> Found:
    window = _view(order, record, order.events)
    if isinstance(window, Found):
        return window
    cpus: Sequence[int | None] = window.online if order.per == "cpu" else [None]
    witnesses: list[Event] = []
    for cpu in cpus:
        found = _in_order(order.events, window, cpu)
        if found.finding is not Finding.HELD:
            return found
        witnesses += found.events
    if window.loss:
        return _unseen(window.loss, witnesses)
    return _held(" < ".join(selector.text for selector in order.events), witnesses)


def _in_order(selectors: Sequence[Selector], window: Window, cpu: int | None) -> Found:
    """Whether every event of each selector precedes every event of the next (on one CPU, or on all)."""
    groups: list[list[Event]] = []
    for selector in selectors:
        group = [event for event in window.events if event.matches(selector) and cpu in (None, event.cpu)]
        if missing := _missing(selector, group, window.online if cpu is None else (cpu,)):
            return _unseen(missing + (f" ({window.gap})" if window.gap else ""), group)
        groups.append(sorted(group, key=_rank))
    for earlier, later in itertools.pairwise(groups):
        if _rank(earlier[-1]) >= _rank(later[0]):
            text = f"{_named(earlier[-1])} came after {_named(later[0])}"
            return _failed(text, sorted((earlier[-1], later[0]), key=_rank))
    return _held("", [event for group in groups for event in (group[0], group[-1])])


def _rank(event: Event) -> tuple[int, int]:
    assert event.order is not None
    return event.order


def _missing(selector: Selector, group: Sequence[Event], online: Sequence[int]) -> str:
    if not group:
        return f"no event {selector.text}"
    seen = {event.cpu for event in group}
    lacking = [cpu for cpu in online if cpu not in seen] if selector.cpu == "each" else []
    return f"no event {selector.name} on CPU {_listed(lacking)}" if lacking else ""


def _named(event: Event) -> str:
    phase = "" if event.phase in ("call", "point") else f".{event.phase}"
    return f"{event.name}{phase} on CPU {event.cpu}"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


@_find.register
def _(never: Never, record: RunRecord) -> Found:
    window = _view(never, record, [never.event])
    if isinstance(window, Found):
        return window
    matching = [event for event in window.events if event.matches(never.event)]
    if matching:
        return _failed(f"{_named(matching[0])} happened", matching[:1])
    return _unseen(window.gap) if window.gap else _held(f"no {never.event.text}")


@_find.register
def _(count: Count, record: RunRecord) -> Found:
    window = _view(count, record, [count.event])
    if isinstance(window, Found):
        return window
    matching = [event for event in window.events if event.matches(count.event)]
    low, high = _bounds(count)
    if count.per == "all":
        tallies = {"in all": len(matching)}
    else:
        by_cpu = Counter(event.cpu for event in matching)
        tallies = {f"on CPU {cpu}": by_cpu[cpu] for cpu in sorted(set(window.online) | by_cpu.keys())}
    for where, number in tallies.items():
        too_many = high is not None and number > high
        if too_many or (number < low and not window.gap):
            return _failed(
                f"{count.event.text} happened {number} times {where}, not {_range(low, high)}", matching[-4:]
            )
    if window.gap:
        return _unseen(window.gap, matching)
    return _held(
        f"{count.event.text}: " + ", ".join(f"{number} {where}" for where, number in tallies.items()), matching
    )


def _bounds(count: Count) -> tuple[int, int | None]:
    if count.is_ is not None:
        return count.is_, count.is_
    return count.min or 0, count.max


def _range(low: int, high: int | None) -> str:
    if low == high:
        return str(low)
    return f"at least {low}" if high is None else f"{low} to {high}"


@_find.register
def _(returns: Returns, record: RunRecord) -> Found:
    selector = returns.event if returns.event.phase else replace(returns.event, phase="return")
    if _without_value(record.events, selector):
        return _unseen(f"kernel {record.kernel['release']} does not tell what {selector.name} returned")

    def wrong(event: Event) -> str:
        return (
            ""
            if _is_return(event, returns.is_)
            else f"{_named(event)} = {_return_text(event)}, not {_value(returns.is_)}"
        )

    return _every(returns, selector, record, wrong, f"{selector.name} returned {_value(returns.is_)}")


def _is_return(event: Event, wanted: int | str) -> bool:
    value = wanted if isinstance(wanted, int) else -getattr(errno, wanted)
    return event.errno_return == value


def _return_text(event: Event) -> str:
    value = event.errno_return
    return "?" if value is None else _value(value)


def _value(value: int | str) -> str:
    return f"-{value}" if isinstance(value, str) else return_text(value)


@_find.register
def _(arguments: Arguments, record: RunRecord) -> Found:
    def wrong(event: Event) -> str:
        for name, wanted in arguments.are.items():
            found = event.value(name)
            if not same_value(found, wanted):
                return f"{_named(event)}: {name} was {found}, not {wanted}"
        return ""

    text = f"{arguments.event.name}: {arguments.are}"
    return _every(arguments, arguments.event, record, wrong, text, also=arguments.are)


def _every(
    expectation: InWindow,
    selector: Selector,
    record: RunRecord,
    wrong: Callable[[Event], str],
    text: str,
    also: Iterable[str] = (),
) -> Found:
    """HELD when there is an event (on each CPU, where asked) and `wrong` says "" to all of them."""
    window = _view(expectation, record, [selector], also)
    if isinstance(window, Found):
        return window
    matching = [event for event in window.events if event.matches(selector)]
    for event in matching:
        if complaint := wrong(event):
            return _failed(complaint, [event])
    if missing := _missing(selector, matching, window.online) or window.loss:
        return _unseen(missing, matching)
    return _held(text, matching)


# --- outcomes, samples, messages -------------------------------------------------------------------------


@_find.register
def _(status: ExitStatus, record: RunRecord) -> Found:
    for step, wanted in status.steps.items():
        outcome = record.outcomes.get(step)
        if outcome is None:
            return _unseen(f"step {step!r} was not reached")
        if outcome.result not in wanted:
            detail = f" ({outcome.detail})" if outcome.detail else ""
            text = f"{step} gave {outcome.result}, not {' or '.join(wanted)}{detail}"
            return replace(_failed(text), evidence=outcome.stacks)
    text = ", ".join(f"{step}: {record.outcomes[step].result}" for step in status.steps)
    stacks = tuple(line for step in status.steps for line in record.outcomes[step].stacks)
    return replace(_held(text), evidence=stacks)


@_find.register
def _(virt: Virt, record: RunRecord) -> Found:
    sample = record.samples.get(virt.at)
    if sample is None:
        return _unseen(f"sample {virt.at!r} was not taken")
    on = {cpu for cpu, is_on in sample.virt.items() if is_on}
    if not sample.virt:
        return _unseen(f"sample {virt.at!r} has no registers")
    wanted = {"all": set(sample.online), "none": set()}.get(virt.on) if isinstance(virt.on, str) else set(virt.on)
    if sample.half_on:
        return _failed(f"at {virt.at}: " + ", ".join(f"CPU {cpu}: {why}" for cpu, why in sample.half_on.items()))
    text = f"virtualization on at {virt.at}: CPU {_listed(sorted(on)) or 'none'}"
    if on == wanted:
        return _held(text)
    return _failed(f"{text}; expected: {_listed(sorted(wanted or set())) or 'none'}")


@_find.register
def _(state: State, record: RunRecord) -> Found:
    sample = record.samples.get(state.at)
    if sample is None:
        return _unseen(f"sample {state.at!r} was not taken")
    for path, wanted in state.are.items():
        if not sample.answers(path):
            return _unseen(f"sample {state.at!r} has no {path}: {_why_silent(path)}")
        found = sample.lookup(path)
        if not same_value(found, wanted):
            return _failed(f"{path} was {found} at {state.at}, not {wanted}")
    return _held(", ".join(f"{path} = {wanted}" for path, wanted in state.are.items()))


def _why_silent(path: str) -> str:
    return "the engine has no emulated platform" if path.startswith(PLATFORM) else "the guest could not be asked"


# kernel/printk/printk.c, when messages come faster than the console takes them.
_DROPPED = re.compile(r"\*\* \d+ printk messages dropped \*\*")


def _console(expectation: InWindow, record: RunRecord) -> tuple[tuple[str, ...], bool] | str:
    """The console's lines in the window, and whether they are all that the kernel said in it."""
    cut = _lines(expectation, record)
    if isinstance(cut, str):
        return cut
    lines, whole = cut
    return lines, whole and not any(_DROPPED.search(line) for line in lines)


def _lines(expectation: InWindow, record: RunRecord) -> tuple[tuple[str, ...], bool] | str:
    if expectation.during is None:
        return record.console.lines, record.fault is None
    first, last = expectation.during[0], expectation.during[-1]
    found = record.console.during(first, last)
    if found is None:
        return f"step {first!r} did not begin"
    # A step that ends in the reset it asked for has no end mark; the console is written by QEMU up to that reset.
    ended = last in record.outcomes and record.outcomes[last].result == OK
    return found[0], found[1] or ended


@_find.register
def _(dmesg: Dmesg, record: RunRecord) -> Found:
    cut = _console(dmesg, record)
    if isinstance(cut, str):
        return _unseen(cut)
    lines, whole = cut
    pattern = re.compile(dmesg.present or dmesg.absent or "")
    hit = next((message(line) for line in lines if pattern.search(line)), None)
    if dmesg.present is not None:
        if hit is not None:
            return _held(f"dmesg: {hit}")
        return _failed(f"no message {dmesg.present!r}") if whole else _unseen("the console log was cut short")
    if hit is not None:
        return _failed(f"dmesg: {hit}")
    return _held(f"no message {dmesg.absent!r}") if whole else _unseen("the console log was cut short")


@_find.register
def _(splat: WantedSplat, record: RunRecord) -> Found:
    cut = _console(splat, record)
    if isinstance(cut, str):
        return _unseen(cut)
    for found in find_splats(cut[0]):
        if any(re.search(splat.matching, line) for line in found.excerpt):
            return _held(f"{found.kind}: {found.title}")
    return _failed(f"no splat {splat.matching!r}") if cut[1] else _unseen("the console log was cut short")


# --- the run as a whole ----------------------------------------------------------------------------------


def run_findings(record: RunRecord, expectations: Sequence[Expectation]) -> list[Found]:
    """What concerns every claim: splats nobody expected, an early end, a fault or step that went not as asked."""
    findings = []
    if record.fault is not None and record.fault.exit == 1:
        findings.append(_failed(record.fault.text))
    findings += [
        _failed(f"unexpected {splat.kind}: {splat.title}") for splat in unexpected_splats(record, expectations)
    ]
    findings += _about_holds(record, expectations)
    findings += [
        _held(f"{splat.kind} of a CPU that was being stopped, which any kernel may print: {splat.title}")
        for splat in find_splats(record.console.lines)
        if _of_the_stop(splat, record)
    ]
    if taint := _unexplained_taint(record):
        findings.append(_failed(taint))
    findings += [
        _unseen(
            f"the platform does not emulate {event.args.get('what', event.name)}: what follows proves nothing",
            [event],
        )
        for event in not_emulated(record, expectations)[:1]
    ]
    findings += [
        _unseen(f"the scenario asks for a fault that did not happen: {fault}") for fault in record.idle_faults
    ]
    begun = Counter(event.name for event in record.events if event.phase == "begin" and event.name != BOOT)
    findings += [
        _unseen(f"{name!r} was begun {count} times: the connection to the guest broke when it had begun")
        for name, count in begun.items()
        if count > 1
    ]
    findings += [
        _unseen(f"the machine reset during {name!r}, and {why}: a triple fault?")
        for name, why in _unasked_resets(record)
    ]
    spoken_of = {
        step for expectation in expectations if isinstance(expectation, ExitStatus) for step in expectation.steps
    }
    for outcome in record.outcomes.values():
        if outcome.result != OK and outcome.id not in spoken_of:
            detail = f" ({outcome.detail})" if outcome.detail else ""
            text = f"step {outcome.id!r} gave {outcome.result}{detail}, which no expectation speaks of"
            # A task that hangs in the kernel although nobody is held is the kernel's.
            findings.append(replace((_failed if outcome.result == HUNG else _unseen)(text), evidence=outcome.stacks))
    return findings


# kernel/reboot.c, kernel_restart(): an emergency, which is on every console before the machine is reset, unless the
# task that owns the console stands on a CPU that has been stopped.
_RESTARTS = re.compile(r"reboot: Restarting system")


def _unasked_resets(record: RunRecord) -> Iterator[tuple[str, str]]:
    """The reboots that nothing shows to be the kernel's, and what is missing: to QEMU a triple fault is a reset."""
    doers = {step.id: step for step in record.scenario.steps} | record.scenario.actors
    for name, outcome in record.outcomes.items():
        if not isinstance(doers.get(name), Reboot) or outcome.result != OK:
            continue
        reset, said = record.resets.get(outcome.boot), record.console.after(name)
        if reset is not None and reset.wrote is not None:
            if not any(write.resets for write in reset.wrote.values()):
                yield name, "no CPU had written to a port that resets it"
        elif said is not None and not any(_RESTARTS.search(line) for line in said):
            yield name, "the kernel had not said that it restarts"


def _about_holds(record: RunRecord, expectations: Sequence[Expectation]) -> list[Found]:
    """Holds that a reset ended, where the scenario does not speak of that; and what the kernel said of a hold.

    A task that the scenario never lets go is held up to the end, whatever that is.
    """
    spoken_of = {
        selector.name
        for expectation in expectations
        for selector in expectation.selectors
        if selector.phase == "lost"
    }
    let_go = {step.point for step in record.scenario.steps if isinstance(step, Release)}
    lost = [hold for hold in record.holds if hold.end == "lost" and hold.point in let_go - spoken_of]
    findings = [_unseen(f"{hold.task}-{hold.pid}, held at {hold.point}, was lost to a reset") for hold in lost]
    for splat in find_splats(record.console.lines):
        if hold := _hold_behind(splat, record):
            findings.append(_held(f"{splat.kind} of the hold at {hold.point}, which means nothing: {splat.title}"))
    return findings


def _hold_behind(splat: Splat, record: RunRecord) -> Hold | None:
    """The hold that a stall or lockup is owed to: all that it complains of is a CPU or task that was held then.

    A task that waits for one that is held is known as such only if the run saw it wait. Who waits for a CPU that
    takes no IPI, or no stopper thread, spins on any other.
    """
    during = [hold for hold in record.holds if hold.lines[0] <= splat.line < hold.lines[1]]
    if not splat.sure and (keeping := [hold for hold in during if hold.mode != "soft"]):
        return keeping[0]
    cpus, pids = {hold.cpu for hold in during}, {hold.pid for hold in during} | record.waiting
    complaints = stalled(splat)
    if during and complaints and all(one.cpu in cpus or one.pid in pids for one in complaints):
        return during[0]
    return None


# kernel/reboot.c and kernel/kexec_core.c say it; machine_restart() and its like then stop all CPUs but one.
_STOPS = re.compile(r"reboot: (?:Restarting system|machine restart|Power down|System halted)|Starting new kernel")
_WAKES_OFFLINE_CPU = re.compile(r"sched: Unexpected reschedule of offline CPU#\d+!")


def _of_the_stop(splat: Splat, record: RunRecord) -> bool:
    """Whether a splat is one that any kernel may print while it stops its CPUs: each goes offline at its own time.

    arch/x86/kernel/process.c, stop_this_cpu(): no hotplug has told the scheduler of it, and a CPU that still runs may
    take a task away from one that does not. Seen on 7.3, once in a thousand runs.
    """
    said = record.console.before(splat.line)
    wakes = any(_WAKES_OFFLINE_CPU.search(line) for line in splat.excerpt)
    return splat.kind == "WARNING" and wakes and any(_STOPS.search(line) for line in said)


_NOT_EMULATED = "not_emulated"


def not_emulated(record: RunRecord, expectations: Sequence[Expectation]) -> list[Event]:
    """Where the kernel used what the platform does not have, in a scenario that does not speak of it.

    The kernel then saw what no CPU would have shown it.
    """
    spoken_of = {selector.name for expectation in expectations for selector in expectation.selectors}
    return [event for event in record.events if event.name == _NOT_EMULATED and _NOT_EMULATED not in spoken_of]


def unexpected_splats(record: RunRecord, expectations: Sequence[Expectation]) -> list[Splat]:
    """The splats on the console that no expectation asks for, and no hold brought about."""
    wanted = [expectation.matching for expectation in expectations if isinstance(expectation, WantedSplat)]
    return [
        splat
        for splat in find_splats(record.console.lines)
        if not any(re.search(pattern, line) for pattern in wanted for line in splat.excerpt)
        and not (record.expected_panic and _SYSRQ_PANIC.search(splat.title))
        and _hold_behind(splat, record) is None
        and not _of_the_stop(splat, record)
    ]


_SYSRQ_PANIC = re.compile(r"Kernel panic - not syncing: sysrq triggered crash")

# Documentation/admin-guide/tainted-kernels.rst: bits that only a kernel at fault sets.
_TAINT_BITS = {4: "M, machine check", 5: "B, bad page", 7: "D, died", 9: "W, warned", 14: "L, soft lockup"}
_LOCKUP = 14


def _unexplained_taint(record: RunRecord) -> str:
    """A taint of which the console shows no splat: one that the table of splats does not know."""
    splats = find_splats(record.console.lines)
    if any(splat.sure for splat in splats):
        return ""
    # A stall explains no other taint: it may be a hold's.
    explained = {_LOCKUP} if splats else set()
    for sample in record.samples.values():
        taint = int(sample.guest.get("tainted", 0))
        if flags := [flag for bit, flag in _TAINT_BITS.items() if taint >> bit & 1 and bit not in explained]:
            return f"the kernel is tainted at {sample.name} ({'; '.join(flags)}), with no known splat on the console"
    return ""
