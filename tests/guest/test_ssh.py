"""Commands in a real guest."""

from pathlib import Path

import pytest

from harness.errors import DeadlineExceeded, HostFault
from harness.guest.ssh import ConnectionLost, Shell
from harness.images.keys import make_keys
from harness.machine.ending import EndingKind
from harness.machine.state import State
from tests.guests import Guest, deadline

pytestmark = [pytest.mark.boot, pytest.mark.network]


def test_a_result_has_status_and_both_outputs_apart(guest: Guest) -> None:
    result = guest.shell.run("echo out; echo err >&2; exit 3", deadline())
    assert (result.status, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert 0 < result.duration < 60


def test_a_signal_is_128_and_its_number(guest: Guest) -> None:
    assert guest.shell.run("sh -c 'kill -9 $$'", deadline()).status == 128 + 9


def test_output_of_any_length_comes_whole(guest: Guest) -> None:
    result = guest.shell.run("seq 1 200000", deadline())
    assert result.stdout.splitlines()[-1] == "200000"
    assert len(result.stdout) == sum(len(str(n)) + 1 for n in range(1, 200001))


def test_a_background_command_goes_on_beside_others(guest: Guest) -> None:
    background = guest.shell.start("echo begin; until [ -e /tmp/go ]; do sleep 0.1; done; echo end", deadline())
    assert guest.shell.run("echo meanwhile", deadline()).stdout == "meanwhile\n"
    assert background.poll(deadline()) is None
    assert background.stdout == "begin\n"
    guest.shell.run("touch /tmp/go", deadline())
    assert background.wait(deadline()).stdout == "begin\nend\n"
    assert background.wait(deadline()).status == 0


def test_a_command_that_takes_too_long_says_what_it_printed(guest: Guest) -> None:
    with pytest.raises(DeadlineExceeded, match="still running in the guest") as caught:
        guest.shell.run("echo so far; sleep 100", deadline(1, "this command"))
    assert "so far" in str(caught.value)


def test_it_survives_a_suspend(guest: Guest) -> None:
    counting = guest.shell.start("for i in 1 2 3 4 5; do echo $i; sleep 0.3; done", deadline())
    asleep = guest.shell.start("echo mem > /sys/power/state", deadline())
    guest.machine.wait_suspended(deadline())
    guest.machine.wake_up(deadline())
    assert asleep.wait(deadline()).status == 0
    assert counting.wait(deadline()).stdout == "1\n2\n3\n4\n5\n"


def test_an_expected_reset_loses_the_command_and_a_new_connection_reaches_the_next_boot(guest: Guest) -> None:
    guest.machine.expect(State.RESET)
    reboot = guest.shell.start("echo before; reboot -f", deadline())
    with pytest.raises(ConnectionLost) as caught:
        reboot.wait(deadline())
    assert caught.value.ending.kind is EndingKind.RESET
    assert not guest.shell.alive
    guest.boot()
    assert guest.shell.run("cat /proc/sys/kernel/random/boot_id", deadline()).status == 0


def test_a_session_that_breaks_while_the_guest_answers(guest: Guest) -> None:
    # The parent of the session's shell is the dropbear process that serves this connection only.
    with pytest.raises(ConnectionLost, match="lost the guest during") as caught:
        guest.shell.run("kill -9 $PPID; sleep 100", deadline())
    assert caught.value.ending.kind is EndingKind.RUNNING
    guest.shell.connect(deadline())
    assert guest.shell.run("true", deadline()).status == 0


def test_without_a_connection_a_command_is_lost(guest: Guest, tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost, match="the guest answers on SSH"):
        Shell(guest.machine, make_keys(tmp_path)).run("true", deadline())


def test_another_guest_s_keys_are_refused(guest: Guest, tmp_path: Path) -> None:
    with pytest.raises(HostFault, match="not this run's"):
        Shell(guest.machine, make_keys(tmp_path)).connect(deadline())
