"""The console over a real socket, with the bytes that a kernel sends."""

import socket
from collections.abc import Iterator

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded
from harness.machine.bell import Bell
from harness.machine.console import Console, Sign, patient_pair


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Console]]:
    guest, host = socket.socketpair()
    console = Console(host, Bell())
    yield guest, console
    guest.close()
    console.close()


def soon() -> Deadline:
    return Deadline.after(5, "the line")


def test_lines_come_without_their_ends_and_with_positions(ends: tuple[socket.socket, Console]) -> None:
    guest, console = ends
    guest.sendall(b"one\r\ntw")
    assert console.wait_for("one", soon()).number == 0
    guest.sendall(b"o\r\nthree\r\n")
    assert console.wait_for("three", soon()).number == 2
    assert [line.text for line in console.lines(1)] == ["two", "three"]
    assert console.excerpt(lines=1) == "three"


def test_a_search_after_a_position_does_not_see_what_came_before(ends: tuple[socket.socket, Console]) -> None:
    guest, console = ends
    guest.sendall(b"ready\nother\n")
    console.wait_for("other", soon())
    assert console.find("ready") is not None
    assert console.find("ready", since=1) is None
    with pytest.raises(DeadlineExceeded):
        console.wait_for("ready", Deadline.after(0.05, "a second one"), since=1)


def test_signs(ends: tuple[socket.socket, Console]) -> None:
    guest, console = ends
    guest.sendall(
        b"harness: ready 3.21\n"
        b"[    9.1] Kernel panic - not syncing: sysrq triggered crash\n"
        b"[    9.2] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---\n"
    )
    console.wait_for("end Kernel", soon())
    signs = console.signs()
    assert signs[Sign.READY].detail == "3.21"
    assert signs[Sign.PANIC].detail == "sysrq triggered crash"
    assert signs[Sign.PANIC].line.number == 1
    assert console.signs(since=2) == {}


def test_what_is_not_text_does_not_end_the_reader(ends: tuple[socket.socket, Console]) -> None:
    guest, console = ends
    guest.sendall(b"\xff\xfe\x00\nnext\n")
    assert console.wait_for("next", soon()).number == 1


def test_the_end_keeps_the_unfinished_line(ends: tuple[socket.socket, Console]) -> None:
    guest, console = ends
    guest.sendall(b"half a li")
    guest.close()
    assert console.wait_end(5)
    assert console.excerpt() == "half a li"


def test_typing(ends: tuple[socket.socket, Console]) -> None:
    guest, console = ends
    console.send_line("uname -r")
    assert guest.recv(100) == b"uname -r\n"


def test_closing_twice(ends: tuple[socket.socket, Console]) -> None:
    _, console = ends
    console.close()
    console.close()


def test_a_pair_takes_what_comes_byte_by_byte_while_nobody_reads() -> None:
    text = b"ACPI S3\n" * 1000
    ours, theirs = patient_pair()
    with ours, theirs:
        theirs.setblocking(False)  # as QEMU has it
        for byte in text:
            assert theirs.send(bytes([byte])) == 1
        theirs.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: ours.recv(65536), b"")) == text


def test_a_guest_that_had_more_to_read_ends_like_any_other() -> None:
    ours, theirs = patient_pair()
    console = Console(ours, Bell())
    console.send_line("nobody reads this")
    theirs.sendall(b"last words\nand half a line")
    console.wait_for("last words", soon())
    theirs.close()  # with something unread: a reset of the connection
    assert console.wait_end(5)
    assert console.lines()[-1].text == "and half a line"
    console.close()
