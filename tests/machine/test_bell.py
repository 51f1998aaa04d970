import threading

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded
from harness.machine.bell import Bell


def test_an_answer_that_is_there_needs_no_ring() -> None:
    assert Bell().wait_for(lambda: 7, Deadline.after(0, "nothing")) == 7


def test_a_ring_makes_waiters_look_again() -> None:
    bell, box = Bell(), list[int]()

    def deliver() -> None:
        box.append(1)
        bell.ring()

    timer = threading.Timer(0.05, deliver)
    timer.start()
    assert bell.wait_for(lambda: box[0] if box else None, Deadline.after(5, "the delivery")) == 1
    timer.join()


def test_time_runs_out() -> None:
    with pytest.raises(DeadlineExceeded, match="timed out: the delivery"):
        Bell().wait_for(lambda: None, Deadline.after(0.05, "the delivery"))


def test_what_the_look_raises_ends_the_wait() -> None:
    def look() -> None:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        Bell().wait_for(look, Deadline.after(5, "the delivery"))
