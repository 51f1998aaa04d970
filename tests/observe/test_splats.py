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
    ("oops", "[   10.1] divide error: 0000 [#1] PREEMPT SMP NOPTI"),
    ("oops", "[   10.1] Oops: invalid opcode: 0000 [#1] SMP NOPTI"),
    ("oops", "[   10.1] invalid opcode: 0000 [#1] PREEMPT SMP NOPTI"),
    ("oops", "[   10.1] int3: 0000 [#2] PREEMPT SMP"),
    ("oops", "[   10.1] stack segment: 0000 [#1] PREEMPT SMP"),
    ("oops", "[   10.1] general protection fault, probably for non-canonical address 0x1: 0000 [#1] PREEMPT SMP"),
    ("oops", "[   10.1] BUG: TASK stack guard page was hit at 00000000 (stack is 00000000..00000000)"),
    ("oops", "[   10.1] traps: PANIC: double fault, error_code: 0x0"),
    ("BUG", "[   10.1] BUG: spinlock bad magic on CPU#1, modprobe/150"),
    ("BUG", "[   10.1] BUG kmalloc-64 (Tainted: G        W         ): Right Redzone overwritten"),
    (
        "WARNING",
        "[   10.1] WARNING: [!virt_ops || cpu] arch/x86/virt/hw.c:323 at x86_virt_put_ref+0x4b, CPU#0: sh/22",
    ),
    ("lockdep", "[   10.1] WARNING: suspicious RCU usage"),
    ("lockdep", "[   10.1] WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected"),
    ("lockdep", "[   10.1]  *** DEADLOCK ***"),
    ("RCU stall", "[   10.1] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:"),
    ("RCU stall", "[   10.1] INFO: rcu_tasks detected stalls on tasks:"),
    ("hard lockup", "[   10.1] watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3"),
    ("workqueue lockup", "[   10.1] BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 nice=0 stuck for 62s!"),
    ("atomic", "[   10.1] BUG: using smp_processor_id() in preemptible [00000000] code: modprobe/150"),
    ("KASAN", "[   10.1] BUG: KASAN: slab-use-after-free in kvm_exit+0x1/0x2 [kvm]"),
    ("KASAN", "[   10.1] BUG: KFENCE: use-after-free read in kvm_exit+0x1/0x2 [kvm]"),
    ("UBSAN", "[   10.1] UBSAN: array-index-out-of-bounds in arch/x86/kvm/svm/svm.c:1:2"),
    ("page state", "[   10.1] BUG: Bad page map in process modprobe  pte:00000000 pmd:00000000"),
    ("sysfs", "[   10.1] sysfs: cannot create duplicate filename '/devices/virtual/misc/kvm'"),
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
    "[    9.7] clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable because of skew",
    "[    9.7] clocksource: Long readout interval, skipping watchdog check: cs_nsec: 1 wd_nsec: 2",
    "[    9.7] INFO: NMI handler (perf_event_nmi_handler) took too long to run: 1.2 msecs",
    "[    9.7] NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
    "[    9.7] traps: sh[150] general protection fault ip:401000 sp:7ffc00 error:0 in busybox[401000+1000]",
    "[    9.7] WARNING! power/level is deprecated; use power/control instead",
    "[    9.7] [Firmware Bug]: TSC ADJUST: CPU0: 1 force to 0",
    "[    9.7] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible via Spectre v2",
    "[    9.7] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---",
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


def test_a_report_ends_where_another_begins() -> None:
    log = [
        "[1.0] BUG: Bad rss-counter state mm:0 type:MM_FILEPAGES val:1",
        "[1.1] nothing",
        "[1.2] ------------[ cut here ]------------",
        "[1.2] refcount_t: underflow; use-after-free.",
        "[1.2] WARNING: CPU: 1 PID: 147 at lib/refcount.c:28 f+0x2c/0x40",
        "[1.2]  <TASK>",
        "[1.3] BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "[1.3] Oops: 0000 [#1] PREEMPT SMP",
        "[1.4] ---[ end trace 0000000000000000 ]---",
    ]
    assert [(splat.kind, splat.line) for splat in find_splats(log)] == [
        ("page state", 0),
        ("refcount", 3),
        ("oops", 6),
    ]


def test_what_is_corrupt_stands_before_its_own_report() -> None:
    log = [
        "[1.0] list_del corruption, ffffffffc02c1780->next is LIST_POISON1 (dead000000000100)",
        "[1.0] ------------[ cut here ]------------",
        "[1.0] kernel BUG at lib/list_debug.c:56!",
        "[1.0] Oops: invalid opcode: 0000 [#1] PREEMPT SMP NOPTI",
        "[1.0] ---[ end trace 0000000000000000 ]---",
    ]
    assert [splat.kind for splat in find_splats(log)] == ["list"]


def test_a_starved_vcpu_may_stall_but_does_not_oops() -> None:
    stall, oops = find_splats(["rcu: INFO: rcu_preempt self-detected stall on CPU", "Oops: 0000 [#1] SMP"])
    assert (stall.sure, oops.sure) == (False, True)


def test_what_a_warning_is_about_stands_before_its_header() -> None:
    (splat,) = find_splats(
        [
            "[ 0.9] another message",
            "[ 1.0] ------------[ cut here ]------------",
            "[ 1.0] VMXON faulted, MSR_IA32_FEAT_CTL (0x3a) = 0x1",
            "[ 1.1] WARNING: arch/x86/virt/hw.c:87 at x86_vmx_enable_virtualization_cpu+0xbc/0xd8, CPU#1: cpuhp/1/19",
            "[ 1.2] RIP: 0010:x86_vmx_enable_virtualization_cpu+0xbc/0xd8",
            "[ 1.3] ---[ end trace 0000000000000000 ]---",
        ]
    )
    assert splat.excerpt[0] == "VMXON faulted, MSR_IA32_FEAT_CTL (0x3a) = 0x1"
    assert splat.title.startswith("WARNING: arch/x86/virt/hw.c:87")
    assert splat.line == 3
