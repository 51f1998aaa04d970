"""For each kind of expectation: a record that holds it, one that fails it, and one that did not see it."""

from __future__ import annotations

import dataclasses

import pytest

from harness.errors import Exit
from harness.guest.outcome import UNFINISHED
from harness.judge.judge import judge
from harness.judge.record import Fault, RunRecord
from harness.judge.verdict import Verdict
from harness.observe.port_write import PortWrite
from harness.scenario.expectations import EXPECTATION_KINDS
from tests.judge.records import HEAD, emulated, event, only, outcome, record, sample, step

LOAD = step("load", 1, 90)
BOTH_ON = [event(10, 0, "on"), event(12, 1, "on")]

ORDER = "  - order: [on@each, late]\n    during: load\n"
NEVER = "  - never: {event: off, during: load}\n"
COUNT = "  - count: {event: on, per: cpu, is: 1}\n    during: load\n"
RETURNS = "  - returns: {event: on@each, is: EIO}\n    during: load\n"
ARGUMENTS = "  - arguments: {event: late, are: {state: 6}}\n"
EXIT = "  - exit: {load: EBUSY}\n"
VIRT = "  - virt: {at: loaded, on: all}\n"
STATE = "  - state: {at: loaded, are: {modules.kvm.refcnt: 1}}\n"
STATE_OF_PLATFORM = "  - state: {at: loaded, are: {platform.vmx.1.root: 1, platform.tdx: absent}}\n"
PRESENT = "  - dmesg: {present: 'exiting hardware'}\n    during: load\n"
ABSENT = "  - dmesg: {absent: 'exiting hardware'}\n    during: load\n"
SPLAT = "  - splat: 'WARNING.*kvm'\n"

MARKED = "[ 1.0] harness: begin load\n{}[ 2.0] harness: end load\n"
DROPPED = "** 12 printk messages dropped **\n"
LINE = "[ 1.5] kvm: exiting hardware virtualization\n"
WARNING = "[ 1.5] WARNING: CPU: 0 PID: 1 at virt/kvm/kvm_main.c:1 kvm_f+0x1\n[ 1.6] ---[ end trace 0 ]---\n"
STALL = "[ 1.5] rcu: INFO: rcu_preempt self-detected stall on CPU\n"
MSR = "[ 1.4] unchecked MSR access error: RDMSR from 0x1\n"
CRASH = "[ 1.5] sysrq: Trigger a crash\n[ 1.6] Kernel panic - not syncing: sysrq triggered crash\n"

CASES = {
    "order held": (record(ORDER, [*LOAD, *BOTH_ON, event(20, 0, "late")]), Verdict.CONFIRMED),
    "order failed": (
        record(ORDER, [*LOAD, event(10, 0, "on"), event(15, 0, "late"), event(16, 1, "on")]),
        Verdict.VIOLATED,
    ),
    "order: a CPU missing": (record(ORDER, [*LOAD, event(10, 0, "on"), event(20, 0, "late")]), Verdict.NOT_EXERCISED),
    "order: unordered": (record(ORDER, [*LOAD, *BOTH_ON, event(None, 0, "late")]), Verdict.NOT_EXERCISED),
    "order: events lost": (
        record(ORDER, [*LOAD, *BOTH_ON, event(20, 0, "late")], lost={1: 1}),
        Verdict.NOT_EXERCISED,
    ),
    "order: online CPUs unknown": (
        dataclasses.replace(record(ORDER.replace("each, late]", "each, late]\n    per: cpu"), LOAD), online=()),
        Verdict.NOT_EXERCISED,
    ),
    "order: equal numbers": (record(ORDER, [*LOAD, *BOTH_ON, event(12, 0, "late")]), Verdict.VIOLATED),
    "order: outside the window": (record(ORDER, [*LOAD, *BOTH_ON, event(95, 0, "late")]), Verdict.NOT_EXERCISED),
    "never held": (record(NEVER, LOAD), Verdict.CONFIRMED),
    "never failed": (record(NEVER, [*LOAD, event(10, 0, "off")]), Verdict.VIOLATED),
    "never: events lost": (record(NEVER, LOAD, lost={1: 3}), Verdict.NOT_EXERCISED),
    "never: trace cut": (record(NEVER, step("load", 1, None), complete=frozenset()), Verdict.NOT_EXERCISED),
    "never: no probe": (record(NEVER, LOAD, armed=("on",)), Verdict.NOT_EXERCISED),
    "never: step not begun": (record(NEVER), Verdict.NOT_EXERCISED),
    "count held": (record(COUNT, [*LOAD, *BOTH_ON]), Verdict.CONFIRMED),
    "count: one too many": (record(COUNT, [*LOAD, *BOTH_ON, event(14, 1, "on")]), Verdict.VIOLATED),
    "count: none": (record(COUNT, LOAD), Verdict.VIOLATED),
    "count: none, but events lost": (record(COUNT, LOAD, lost={1: 1}), Verdict.NOT_EXERCISED),
    "count: too many, though events lost": (
        record(COUNT, [*LOAD, *BOTH_ON, event(14, 1, "on")], lost={1: 1}),
        Verdict.VIOLATED,
    ),
    "count: on a CPU that was offline": (
        record(COUNT, [*LOAD, *BOTH_ON], outcomes=[outcome("load", online=(0,)), outcome("unload")]),
        Verdict.CONFIRMED,
    ),
    "returns held": (
        record(RETURNS, [*LOAD, *(event(10 + cpu, cpu, "on", "return", ret=0xFFFFFFFB) for cpu in (0, 1))]),
        Verdict.CONFIRMED,
    ),
    "returns failed": (record(RETURNS, [*LOAD, event(10, 0, "on", "return", ret=0)]), Verdict.VIOLATED),
    "returns: one of them lost": (
        record(RETURNS, [*LOAD, *(event(10 + cpu, cpu, "on", "return", ret=-5) for cpu in (0, 1))], lost={1: 1}),
        Verdict.NOT_EXERCISED,
    ),
    "returns: the kernel does not tell the value": (
        record(RETURNS, [*LOAD, event(10, 0, "on", "return")]),
        Verdict.NOT_EXERCISED,
    ),
    "never: of a value that the kernel does not tell": (
        record(NEVER.replace("off", "'off.return[ret=0]'"), [*LOAD, event(10, 0, "off", "return")]),
        Verdict.NOT_EXERCISED,
    ),
    "returns: unseen": (record(RETURNS, [*LOAD, *BOTH_ON]), Verdict.NOT_EXERCISED),
    "arguments held": (record(ARGUMENTS, [event(1, 0, "late", state="0x6")]), Verdict.CONFIRMED),
    "arguments failed": (record(ARGUMENTS, [event(1, 0, "late", state=3)]), Verdict.VIOLATED),
    "arguments: not fetched": (record(ARGUMENTS, [event(1, 0, "late")]), Verdict.NOT_EXERCISED),
    "arguments: unseen": (record(ARGUMENTS), Verdict.NOT_EXERCISED),
    "exit held": (record(EXIT, outcomes=[outcome("load", "EBUSY"), outcome("unload")]), Verdict.CONFIRMED),
    "exit failed": (record(EXIT), Verdict.VIOLATED),
    "exit: not reached": (record(EXIT, outcomes=[]), Verdict.NOT_EXERCISED),
    "virt held": (record(VIRT, samples=[sample("loaded", [0, 1])]), Verdict.CONFIRMED),
    "virt: the offline CPU may be off": (
        record(VIRT, samples=[sample("loaded", [0], online=(0,))]),
        Verdict.CONFIRMED,
    ),
    "virt failed": (record(VIRT, samples=[sample("loaded", [0])]), Verdict.VIOLATED),
    "virt: on where it must not be": (
        record(VIRT.replace("all", "none"), samples=[sample("loaded", [1], online=(0,))]),
        Verdict.VIOLATED,
    ),
    "virt: no sample": (record(VIRT), Verdict.NOT_EXERCISED),
    "state held": (record(STATE, samples=[sample("loaded", [], modules={"kvm": {"refcnt": 1}})]), Verdict.CONFIRMED),
    "state failed": (record(STATE, samples=[sample("loaded", [], modules={"kvm": {"refcnt": 2}})]), Verdict.VIOLATED),
    "state: absent": (record(STATE, samples=[sample("loaded", [], modules={})]), Verdict.VIOLATED),
    "virt: VMXE without VMX operation": (record(VIRT, samples=[emulated("loaded", [0, 1], [0])]), Verdict.VIOLATED),
    "virt: VMX operation without VMXE": (
        record(VIRT.replace("all", "none"), samples=[emulated("loaded", [], [1])]),
        Verdict.VIOLATED,
    ),
    "virt: both": (record(VIRT, samples=[emulated("loaded", [0, 1], [0, 1])]), Verdict.CONFIRMED),
    "state: of the platform, without the guest": (
        record(STATE_OF_PLATFORM, samples=[emulated("loaded", [1], [1])]),
        Verdict.CONFIRMED,
    ),
    "state: of the platform, another": (
        record(STATE_OF_PLATFORM, samples=[emulated("loaded", [0], [0])]),
        Verdict.VIOLATED,
    ),
    "state: no platform": (
        record(STATE_OF_PLATFORM, samples=[sample("loaded", [1], modules={})]),
        Verdict.NOT_EXERCISED,
    ),
    "state: registers only": (record(STATE, samples=[sample("loaded", [])]), Verdict.NOT_EXERCISED),
    "dmesg present held": (record(PRESENT, console=MARKED.format(LINE)), Verdict.CONFIRMED),
    "dmesg present failed": (record(PRESENT, console=MARKED.format("") + LINE), Verdict.VIOLATED),
    "dmesg present: step not begun": (record(PRESENT, console=LINE), Verdict.NOT_EXERCISED),
    "dmesg absent held": (record(ABSENT, console=MARKED.format("")), Verdict.CONFIRMED),
    "dmesg absent failed": (record(ABSENT, console=MARKED.format(LINE)), Verdict.VIOLATED),
    "dmesg absent: log cut": (
        record(ABSENT, console="[1] harness: begin load\n", outcomes=[outcome("load", UNFINISHED)]),
        Verdict.NOT_EXERCISED,
    ),
    "dmesg absent: messages dropped": (record(ABSENT, console=MARKED.format(DROPPED)), Verdict.NOT_EXERCISED),
    "dmesg present: messages dropped": (record(PRESENT, console=MARKED.format(DROPPED)), Verdict.NOT_EXERCISED),
    "splat held": (record(SPLAT, console=WARNING), Verdict.CONFIRMED),
    "splat failed": (record(SPLAT), Verdict.VIOLATED),
    "splat: another one": (record(SPLAT, console=WARNING + WARNING.replace("kvm", "net")), Verdict.VIOLATED),
}


@pytest.mark.parametrize("case", CASES)
def test_verdict(case: str) -> None:
    run, expected = CASES[case]
    verdict = only(judge(run).claims)
    assert verdict.verdict is expected, verdict.findings
    assert verdict.findings, "a verdict without evidence"


def test_every_kind_has_a_case_that_holds_and_one_that_fails() -> None:
    for kind in EXPECTATION_KINDS:
        for word in ("held", "failed" if kind != "count" else "none"):
            assert any(name.startswith(kind) and word in name for name in CASES), f"{kind} {word}"


def test_violated_order_shows_the_two_events_that_contradict_it() -> None:
    run, _ = CASES["order failed"]
    found = only(judge(run).claims).findings[0]
    assert [(event.name, event.cpu, event.seq) for event in found.events] == [("late", 0, 15), ("on", 1, 16)]
    assert found.text == "on on CPU 1 came after late on CPU 0"


def test_order_per_cpu_compares_on_each_cpu_by_itself() -> None:
    expect = "  - order: [on, late]\n    per: cpu\n    during: load\n"
    fine = [event(10, 0, "on"), event(20, 1, "on"), event(15, 0, "late"), event(25, 1, "late")]
    assert only(judge(record(expect, [*LOAD, *fine])).claims).verdict is Verdict.CONFIRMED
    wrong = [event(10, 0, "on"), event(26, 1, "on"), event(15, 0, "late"), event(25, 1, "late")]
    assert only(judge(record(expect, [*LOAD, *wrong])).claims).verdict is Verdict.VIOLATED


@pytest.mark.parametrize("expect", [ORDER, NEVER.replace("off", "late"), COUNT.replace("on,", "late,")])
def test_unordered_is_not_ordered(expect: str) -> None:
    verdict = only(judge(record(expect, [*LOAD, *BOTH_ON, event(None, 0, "late")])).claims)
    assert verdict.verdict is Verdict.NOT_EXERCISED
    assert "unordered" in verdict.findings[0].text


def test_events_after_a_reset_are_not_in_a_window_that_the_reset_cut() -> None:
    events = [*step("load", 1, None), event(2, 0, "off", boot=2)]
    run = record(NEVER, events, complete=frozenset({1, 2}))
    assert only(judge(run).claims).verdict is Verdict.CONFIRMED


@pytest.mark.parametrize(
    ("run", "expected", "reason"),
    [
        (record(NEVER, LOAD, console=WARNING), Verdict.VIOLATED, "unexpected WARNING"),
        (record(NEVER, LOAD, fault=Fault("GuestEnded", 1, "the kernel panicked")), Verdict.VIOLATED, "panicked"),
        (record(NEVER, LOAD, fault=Fault("HostFault", 3, "QEMU died")), Verdict.HARNESS_FAULT, "off"),
        (
            record(NEVER, LOAD, console=WARNING, fault=Fault("DeadlineExceeded", 3, "timed out")),
            Verdict.VIOLATED,
            "unexpected WARNING",
        ),
        (
            record(NEVER, LOAD, console=STALL, fault=Fault("DeadlineExceeded", 3, "step 'vm' did not end")),
            Verdict.HARNESS_FAULT,
            "unexpected RCU stall",
        ),
        (record(NEVER, LOAD, [sample("loaded", [], tainted=512)]), Verdict.VIOLATED, "W, warned"),
        (record(NEVER, LOAD, [sample("loaded", [], tainted=0x3004)]), Verdict.CONFIRMED, "no off"),
        (
            dataclasses.replace(record(NEVER, LOAD, console=MSR + CRASH), expected_panic=True),
            Verdict.VIOLATED,
            "unexpected unchecked MSR",
        ),
        (dataclasses.replace(record(NEVER, LOAD, console=CRASH), expected_panic=True), Verdict.CONFIRMED, "no off"),
        (
            dataclasses.replace(record(NEVER, LOAD), idle_faults=("gp by TDH.SYS.INIT, call 5",)),
            Verdict.NOT_EXERCISED,
            "a fault that did not happen: gp by TDH.SYS.INIT, call 5",
        ),
        (record(NEVER, LOAD, fault=Fault("NotExercised", 4, "no VMX")), Verdict.NOT_EXERCISED, "off"),
        (
            record(NEVER, LOAD, outcomes=[outcome("load"), outcome("unload", "EBUSY")]),
            Verdict.NOT_EXERCISED,
            "'unload' gave EBUSY, which no expectation speaks of",
        ),
    ],
)
def test_what_concerns_the_whole_run(run: RunRecord, expected: Verdict, reason: str) -> None:
    verdict = only(judge(run).claims)
    assert verdict.verdict is expected
    assert any(reason in found.text for found in verdict.findings)


EARLY = Fault("MissedHold", 4, "nobody came to point 'p'")
WHOLE = COUNT.replace("    during: load\n", "")
MIN = "  - count: {event: on, min: 1}\n    during: load\n"


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        # What had not happened by then may still have been to come …
        (record(WHOLE, BOTH_ON[:1], fault=EARLY), Verdict.NOT_EXERCISED),
        (
            record(MIN, step("load", 1, None), outcomes=[outcome("load", UNFINISHED)], fault=EARLY),
            Verdict.NOT_EXERCISED,
        ),
        # … unless its step was over, and one too many stays that.
        (record(MIN, LOAD, fault=EARLY), Verdict.VIOLATED),
        (record(MIN, step("load", 1, None), outcomes=[outcome("load")], fault=EARLY), Verdict.VIOLATED),
        (record(WHOLE, [*BOTH_ON, event(14, 1, "on")], fault=EARLY), Verdict.VIOLATED),
    ],
)
def test_what_is_missing_from_a_run_that_ended_early_is_unseen(run: RunRecord, expected: Verdict) -> None:
    on_tcg_vmx = dataclasses.replace(run, engine="tcg-vmx", by_platform=frozenset({"on"}), armed=())
    assert [only(judge(one).claims).verdict for one in (run, on_tcg_vmx)] == [expected, expected]


REBOOTS = HEAD.replace("  - unload: kvm_vendor", "  - reboot: force")
BEGUN = "[ 1.0] harness: begin reboot\n"
RESTART = "[ 1.5] reboot: Restarting system\n"
NEXT_BOOT = "[ 0.0] Linux version 6.12\n"


@pytest.mark.parametrize(
    ("console", "expected"),
    [
        (BEGUN + RESTART, Verdict.CONFIRMED),
        (BEGUN + "[ 1.2] harness: end reboot\n" + RESTART + NEXT_BOOT, Verdict.CONFIRMED),  # by init, a little later
        (BEGUN, Verdict.NOT_EXERCISED),
        (RESTART + BEGUN + NEXT_BOOT + RESTART, Verdict.NOT_EXERCISED),  # others' words
    ],
)
def test_a_triple_fault_does_not_pass_for_the_reset_that_was_asked_for(console: str, expected: Verdict) -> None:
    run = record(NEVER, LOAD, outcomes=[outcome("load"), outcome("reboot")], console=console, head=REBOOTS)
    assert only(judge(run).claims).verdict is expected


RESETS, OTHER = PortWrite(0x64, 0xFE), PortWrite(0x80, 0xFE)


@pytest.mark.parametrize(
    ("wrote", "boot", "said", "expected"),
    [
        ({0: RESETS}, 1, RESTART, Verdict.CONFIRMED),
        ({0: OTHER, 1: RESETS}, 1, "", Verdict.CONFIRMED),  # who printed was stopped, and owned the console
        ({}, 1, RESTART, Verdict.NOT_EXERCISED),  # after its last words
        ({0: OTHER}, 1, RESTART, Verdict.NOT_EXERCISED),
        ({0: RESETS}, 2, "", Verdict.NOT_EXERCISED),  # another reset
        (None, 1, "", Verdict.NOT_EXERCISED),  # of a run from before anybody looked
        (None, 1, RESTART, Verdict.CONFIRMED),
    ],
)
def test_what_a_cpu_wrote_last_tells_a_restart_from_a_triple_fault(
    wrote: dict[int, PortWrite] | None, boot: int, said: str, expected: Verdict
) -> None:
    at_reset = dataclasses.replace(sample("reset", []), boot=boot, wrote=wrote)
    done = [outcome("load"), outcome("reboot")]
    run = record(NEVER, LOAD, [at_reset], outcomes=done, console=BEGUN + said, head=REBOOTS)
    assert only(judge(run).claims).verdict is expected


def test_a_command_that_was_begun_twice_is_not_what_was_asked_for() -> None:
    run = record(NEVER, [*LOAD, event(91, 0, "load", "begin"), event(95, 0, "load", "end")])
    verdict = only(judge(run).claims)
    assert verdict.verdict is Verdict.NOT_EXERCISED
    assert "'load' was begun 2 times" in verdict.findings[-1].text


WAKES = (
    "[ 2.0] ------------[ cut here ]------------\n[ 2.0] sched: Unexpected reschedule of offline CPU#1!\n"
    "[ 2.0] WARNING: arch/x86/kernel/apic/ipi.c:71 at native_smp_send_reschedule+0x26/0x40, CPU#0: swapper/0/0\n"
    "[ 2.1] ---[ end trace 0 ]---\n"
)


@pytest.mark.parametrize(
    ("console", "expected"),
    [
        (BEGUN + RESTART + WAKES, Verdict.CONFIRMED),
        (BEGUN + WAKES + RESTART, Verdict.VIOLATED),  # no CPU is being stopped yet
        (BEGUN + RESTART + NEXT_BOOT + WAKES, Verdict.VIOLATED),  # nor any more
        (BEGUN + RESTART + WARNING, Verdict.VIOLATED),
        (BEGUN + RESTART + WAKES + WARNING, Verdict.VIOLATED),
    ],
)
def test_a_cpu_that_the_restart_has_stopped_may_be_woken(console: str, expected: Verdict) -> None:
    run = record(NEVER, LOAD, outcomes=[outcome("load"), outcome("reboot")], console=console, head=REBOOTS)
    assert only(judge(run).claims).verdict is expected


def test_a_stall_explains_no_taint_but_that_of_a_lockup() -> None:
    lockup = "[ 9.1] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [guestctl:172]\n"
    told = [found.text for found in only(judge(_tainted(0x4200, lockup)).claims).findings]
    assert any("tainted at loaded (W, warned)" in text for text in told)
    told = [found.text for found in only(judge(_tainted(0x4000, lockup)).claims).findings]
    assert not any("tainted" in text for text in told)


def _tainted(taint: int, console: str) -> RunRecord:
    return record(NEVER, LOAD, [sample("loaded", [], tainted=taint)], console=console)


def test_claim_that_nothing_speaks_of_on_this_kernel_is_not_exercised() -> None:
    verdict = only(judge(record(NEVER + '    kernels: ">=7.3"\n', LOAD)).claims)
    assert verdict.verdict is Verdict.NOT_EXERCISED
    assert "no expectation speaks of kernel 6.12.95" in verdict.findings[-1].text


@pytest.mark.parametrize(
    ("known", "failing", "exit_code"),
    [
        ("", False, Exit.CONFIRMED),
        ("", True, Exit.VIOLATED),
        ("violated", True, Exit.CONFIRMED),
        ("violated", False, Exit.VIOLATED),  # confirmed where a violation was declared: news, too
    ],
)
def test_exit_is_0_exactly_when_the_verdict_is_the_declared_one(known: str, failing: bool, exit_code: Exit) -> None:
    declared = f", known: {{debian:6.12: {known}}}" if known else ""
    head = HEAD.replace("source: here}", f"source: here{declared}}}")
    events = [*LOAD, event(10, 0, "off")] if failing else LOAD
    assert judge(record(NEVER, events, head=head)).exit is exit_code


def test_a_declared_violation_does_not_cover_a_splat() -> None:
    head = HEAD.replace("source: here}", "source: here, known: {debian:6.12: violated}}")
    run = record(NEVER, [*LOAD, event(10, 0, "off")], console=WARNING, head=head)
    assert judge(run).exit is Exit.VIOLATED


ACROSS = NEVER.replace("during: load", "during: [load, unload]")
TWO_BOOTS = [*step("load", 1, 90), event(3, 0, "unload", "begin", boot=3), event(9, 0, "unload", "end", boot=3)]


@pytest.mark.parametrize(
    ("complete", "lost", "expected"),
    [
        ({1, 2}, {}, Verdict.CONFIRMED),
        ({2, 3}, {}, Verdict.NOT_EXERCISED),  # the end of the first boot was not traced
        ({1, 2}, {2: 1}, Verdict.NOT_EXERCISED),
    ],
)
def test_a_window_across_boots_is_seen_if_each_was(
    complete: set[int], lost: dict[int, int], expected: Verdict
) -> None:
    run = record(ACROSS, TWO_BOOTS, complete=frozenset(complete), lost=lost)
    assert only(judge(run).claims).verdict is expected


# --- events of the emulated platform --------------------------------------------------------------------------------

NEVER_VMXOFF = "  - never: {event: vmxoff, during: unload}\n"
CUT = [*step("unload", 1, None), event(20, 0, "late")]
READY = event(5, 0, "boot", "end")
AT_BOOT = "  - count: {event: on, is: 1}\n    during: boot\n"
IN_ALL = "  - count: {event: on, is: 1}\n"


def on_platform(run: RunRecord, *names: str, lost: dict[int, int] | None = None) -> RunRecord:
    """The same run on tcg-vmx, where events of `names` come from the platform."""
    events = [
        dataclasses.replace(one, source="platform") if one.name in (*names, "vmxoff") else one for one in run.events
    ]
    by_platform = frozenset([*names, "vmxoff"])
    return dataclasses.replace(
        run, engine="tcg-vmx", events=tuple(events), by_platform=by_platform, lost_by_platform=lost or {}
    )


PLATFORM_CASES = {
    "never: up to the very reset": (on_platform(record(NEVER_VMXOFF, CUT, complete=frozenset())), Verdict.CONFIRMED),
    "never: it happened": (
        on_platform(record(NEVER_VMXOFF, [*CUT, event(30, 1, "vmxoff", "point")])),
        Verdict.VIOLATED,
    ),
    "never: what tracefs lost is not the platform's": (
        on_platform(record(NEVER_VMXOFF, CUT, lost={1: 9}, complete=frozenset())),
        Verdict.CONFIRMED,
    ),
    "never: lost by the platform": (on_platform(record(NEVER_VMXOFF, CUT), lost={1: 1}), Verdict.NOT_EXERCISED),
    "never: tracefs does not reach the reset": (
        on_platform(record(NEVER.replace("load", "unload"), CUT, complete=frozenset())),
        Verdict.NOT_EXERCISED,
    ),
    "never: a function that the platform traces": (
        on_platform(record(NEVER.replace("load", "unload"), CUT, complete=frozenset()), "off"),
        Verdict.CONFIRMED,
    ),
    "never: an engine without the platform": (record(NEVER_VMXOFF, CUT), Verdict.NOT_EXERCISED),
    "boot: the platform sees it": (on_platform(record(AT_BOOT, [event(2, 0, "on"), READY]), "on"), Verdict.CONFIRMED),
    "boot: it ends when the guest is ready": (
        on_platform(record(AT_BOOT, [event(2, 0, "on"), READY, event(7, 0, "on")]), "on"),
        Verdict.CONFIRMED,
    ),
    "boot: a later boot with fewer CPUs online is another one": (
        on_platform(
            record(
                "  - returns: {event: on@each, is: 0, during: boot}\n",
                [event(2, 0, "on", "return", ret=0), READY],
                outcomes=[outcome("boot", online=(0,))],
            ),
            "on",
        ),
        Verdict.NOT_EXERCISED,
    ),
    "boot: tracefs was not there": (record(AT_BOOT, [READY]), Verdict.NOT_EXERCISED),
    "boot: none": (on_platform(record(AT_BOOT, [READY, event(7, 0, "on")]), "on"), Verdict.VIOLATED),
    # A scenario's functions count from where tracefs would count them, whoever traces them …
    "whole run: a function before the guest was ready": (
        on_platform(record(IN_ALL, [event(2, 0, "on"), READY, event(7, 0, "on")]), "on"),
        Verdict.CONFIRMED,
    ),
    "whole run: the same in a second boot": (
        on_platform(record(IN_ALL, [READY, event(7, 0, "on"), event(2, 0, "on", boot=2)]), "on"),
        Verdict.CONFIRMED,
    ),
    # … and what only the platform knows, from the beginning.
    "whole run: VMXOFF before the guest was ready": (
        on_platform(record("  - never: vmxoff\n", [event(2, 0, "vmxoff", "point"), READY])),
        Verdict.VIOLATED,
    ),
    "arguments: the task": (
        on_platform(record("  - arguments: {event: vmxoff, are: {task: cpuhp}}\n", [event(7, 0, "vmxoff", "point")])),
        Verdict.CONFIRMED,
    ),
    "arguments: another task": (
        on_platform(record("  - arguments: {event: vmxoff, are: {task: sh}}\n", [event(7, 0, "vmxoff", "point")])),
        Verdict.VIOLATED,
    ),
}

READ = "  - never: {event: 'late[state=6]', during: load}\n"
TASK = "  - never: 'vmxoff[task=sh]'\n"
NO_TASK = dataclasses.replace(event(7, 0, "vmxoff", "point"), task="")
PLATFORM_CASES |= {
    "never: an argument that was read": (record(READ, [*LOAD, event(7, 0, "late", state=5)]), Verdict.CONFIRMED),
    "never: an argument that could not be read": (record(READ, [*LOAD, event(7, 0, "late")]), Verdict.NOT_EXERCISED),
    "never: an argument that faulted": (
        record(READ, [*LOAD, event(7, 0, "late", state="(fault)")]),
        Verdict.NOT_EXERCISED,
    ),
    "never: on the other CPU it could not be read": (
        record(READ.replace("6]", "6]@1"), [*LOAD, event(7, 0, "late")]),
        Verdict.CONFIRMED,
    ),
    "never: the task is another one": (
        on_platform(record(TASK, [event(7, 0, "vmxoff", "point")])),
        Verdict.CONFIRMED,
    ),
    "never: the task is not known": (on_platform(record(TASK, [NO_TASK])), Verdict.NOT_EXERCISED),
    "never: no failure is no unread one": (
        on_platform(record("  - never: 'vmxoff[fault=UD]'\n", [event(7, 0, "vmxoff", "point")])),
        Verdict.CONFIRMED,
    ),
}

LAUNCH = event(30, 1, "not_emulated", "point", what="vmlaunch")
PLATFORM_CASES |= {
    "not emulated: nothing is confirmed": (on_platform(record(NEVER, [*LOAD, LAUNCH])), Verdict.NOT_EXERCISED),
    "not emulated: nor is the kernel to blame": (
        on_platform(record(NEVER, [*LOAD, LAUNCH, event(40, 0, "off")], console=WARNING)),
        Verdict.NOT_EXERCISED,
    ),
    "not emulated: the scenario speaks of it": (
        on_platform(
            record("  - count: {event: 'not_emulated[what=vmlaunch]', is: 1}\n", [*LOAD, LAUNCH]), "not_emulated"
        ),
        Verdict.CONFIRMED,
    ),
}


@pytest.mark.parametrize(("run", "expected"), PLATFORM_CASES.values(), ids=PLATFORM_CASES.keys())
def test_events_are_judged_by_what_their_source_saw(run: RunRecord, expected: Verdict) -> None:
    verdict = only(judge(run).claims)
    assert verdict.verdict is expected, [found.text for found in verdict.findings]
