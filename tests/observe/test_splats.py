"""Splats: each kind is recognised by its own first line, and harmless lines are not."""

from __future__ import annotations

import pytest

from harness.observe.splats import find_splats, message

# As printed by Debian's 6.1, 6.12 and 7.3, or by the kernel file named in the table of harness/observe/splats.py.
FIRST_LINES = [
    ("panic", "[   10.1] Kernel panic - not syncing: sysrq triggered crash"),
    ("oops", "[   10.1] BUG: unable to handle page fault for address: ffffffffc0a1b2c0"),
    ("oops", "[   10.1] BUG: kernel NULL pointer dereference, address: 0000000000000008"),
    ("oops", "[   10.1] Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP"),
    ("BUG", "[   10.1] kernel BUG at arch/x86/kvm/x86.c:512!"),
    (
        "WARNING",
        "[   10.1] WARNING: CPU: 1 PID: 147 at arch/x86/kernel/reboot.c:539 cpu_emergency_register_virt+0x2c",
    ),
    ("WARNING", "[   10.1] WARNING: arch/x86/virt/hw.c:323 at x86_virt_put_ref+0x4b/0x60, CPU#0: cpuhp/0/22"),
    ("lockdep", "[   10.1] WARNING: possible recursive locking detected"),
    ("RCU stall", "[   10.1] rcu: INFO: rcu_preempt self-detected stall on CPU"),
    ("hung task", "[   10.1] INFO: task modprobe:150 blocked for more than 120 seconds."),
    ("soft lockup", "[   10.1] watchdog: BUG: soft lockup - CPU#3 stuck for 26s! [modprobe:150]"),
    ("atomic", "[   10.1] BUG: scheduling while atomic: swapper/3/0/0x00000002"),
    ("list", "[   10.1] list_del corruption. prev->next should be ffffffffc0a1b2c0, but was 0000000000000000"),
    ("refcount", "[   10.1] refcount_t: underflow; use-after-free."),
    ("unchecked MSR", "[   10.1] unchecked MSR access error: WRMSR to 0xc0000080 (tried to write 0x1)"),
]

# Each of these was printed by an unpatched Debian kernel in a run that was fine.
HARMLESS = [
    "[    0.0] Linux version 6.12.95+deb12-amd64 (debian-kernel@lists.debian.org)",
    "[    7.9] trace_kprobe: This probe might be able to register after target module is loaded. Continue.",
    "[    9.1] kvm: enabling virtualization on CPU2 failed",
    "[    9.2] debugfs: Directory 'kvm' with parent '/' already present!",
    "[    9.3] kvm: loading out-of-tree module taints kernel.",
    "[    9.4] ..MP-BIOS bug: 8254 timer not connected to IO-APIC",
    "[    9.5] sysrq: Trigger a crash",
    "[    9.6] x86/mm: Checked W+X mappings: passed, no W+X pages found.",
    "harness: ready 5.41",
]


@pytest.mark.parametrize(("kind", "line"), FIRST_LINES)
def test_kind(kind: str, line: str) -> None:
    (splat,) = find_splats(["before", line, "after"])
    assert (splat.kind, splat.line) == (kind, 1)
    assert splat.title == message(line)


@pytest.mark.parametrize("line", HARMLESS)
def test_harmless(line: str) -> None:
    assert find_splats([line]) == []


def test_a_report_is_one_splat_to_its_end() -> None:
    log = [
        "[ 10.1] ------------[ cut here ]------------",
        "[ 10.1] WARNING: CPU: 1 PID: 147 at arch/x86/kernel/reboot.c:539 f+0x2c/0x40",
        "[ 10.1] Call Trace:",
        "[ 10.1]  refcount_t: mentioned inside",
        "[ 10.1] ---[ end trace 0000000000000000 ]---",
        "[ 10.2] kernel BUG at virt/kvm/kvm_main.c:1!",
    ]
    splats = find_splats(log)
    assert [splat.kind for splat in splats] == ["WARNING", "BUG"]
    assert splats[0].excerpt[-1].startswith("---[ end trace")


def test_a_panic_after_an_oops_is_reported_too() -> None:
    log = [
        "[1.0] BUG: unable to handle page fault",
        "[1.0] RIP: 0010:x",
        "[1.1] Kernel panic - not syncing: Fatal exception",
    ]
    assert [splat.kind for splat in find_splats(log)] == ["oops", "panic"]
