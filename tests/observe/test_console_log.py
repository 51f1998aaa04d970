"""Cutting a step's messages out of the console."""

from __future__ import annotations

from harness.observe.console_log import ConsoleLog, kmsg_mark

LOG = ConsoleLog.parse(
    "[ 0.0] Linux version 6.12\r\n"
    f"[ 5.0] {kmsg_mark('begin', 'load')}\r\n[ 5.1] kvm_amd: loaded\r\n[ 5.2] {kmsg_mark('end', 'load')}\r\n"
    f"[ 6.0] {kmsg_mark('begin', 'reboot')}\r\n[ 6.1] kvm: exiting hardware virtualization\r\n"
    "[ 0.0] Linux version 6.12\r\n[ 5.0] next boot\r\n"
)


def test_a_step_with_both_marks() -> None:
    assert LOG.during("load", "load") == (("[ 5.1] kvm_amd: loaded",), True)


def test_a_step_that_a_reset_cut_ends_at_the_next_kernels_banner() -> None:
    assert LOG.during("reboot", "reboot") == (("[ 6.1] kvm: exiting hardware virtualization",), False)


def test_what_came_after_a_step_began_in_its_boot() -> None:
    assert LOG.after("load") == LOG.lines[2:6]
    assert LOG.after("re") is None


def test_what_came_before_a_line_began_with_its_boot() -> None:
    assert LOG.before(5) == LOG.lines[:5]
    assert LOG.before(7) == LOG.lines[6:7]


def test_a_step_whose_id_begins_like_another() -> None:
    assert LOG.during("re", "re") is None


BOOT_LOG = ConsoleLog.parse(
    "SeaBIOS\r\n[ 0.0] Linux version 7.3\r\n[ 1.0] virt/tdx: TDX-Module initialized\r\nharness: ready 5.00\r\n"
    f"[ 6.0] {kmsg_mark('begin', 'load')}\r\n[ 6.1] loaded\r\n[ 6.2] {kmsg_mark('end', 'load')}\r\n"
)


def test_the_first_boot_is_a_window() -> None:
    assert BOOT_LOG.during("boot", "boot") == (("[ 1.0] virt/tdx: TDX-Module initialized",), True)
    lines, whole = BOOT_LOG.during("boot", "load") or ((), False)
    assert (lines[0], lines[-1], whole) == ("[ 1.0] virt/tdx: TDX-Module initialized", "[ 6.1] loaded", True)


def test_a_boot_that_never_was_ready() -> None:
    assert ConsoleLog(BOOT_LOG.lines[:3]).during("boot", "boot") == (
        ("[ 1.0] virt/tdx: TDX-Module initialized",),
        False,
    )
