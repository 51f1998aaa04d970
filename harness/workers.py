"""Work in processes of its own, several at a time: each survives the crash of another, and none survives this one.

    for index, outcome in in_parallel(work, tasks, 2, str):
        …

A worker is a session of its own, so Ctrl-C on the terminal reaches only this process, which then interrupts each
worker once and waits for it to clean up.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from harness import progress
from harness.deadline import Deadline
from harness.display import Level, Message
from harness.errors import Exit, HarnessError, HostFault

Task = TypeVar("Task")
Result = TypeVar("Result")

_CLEAN_UP_S = 30.0  # a run that is interrupted ends its QEMU and completes its folder; 1 s on an idle host

# Not forked: this process has threads, whose locks a fork would copy as they are.
_SPAWN = multiprocessing.get_context("spawn")


# The end of whatever a worker was doing; what became of it is for others to say.
_OVER = Message("over", "")


@dataclass(frozen=True)
class _Outcome:
    """What a worker sends when it is done with a task."""

    value: Any


@dataclass
class _Worker(Generic[Task, Result]):
    process: SpawnProcess
    pipe: Connection
    index: int | None = None  # of the task that it has
    lane: str = ""  # what shows that task

    def give(self, index: int, task: Task, lane: str) -> None:
        self.index = index
        self.lane = lane
        progress.show(lane, Message("begin", lane))
        with contextlib.suppress(OSError):  # it has crashed: its end is seen soon
            self.pipe.send(task)


def _nobody_asks(index: int) -> None:
    pass


def in_parallel(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int,
    name: Callable[[Task], str],
    given: Callable[[int], None] = _nobody_asks,
) -> Iterator[tuple[int, Result | HarnessError]]:
    """Does `work` for each of `tasks`, `workers` at a time; yields index and outcome as they come to their end.

    `work` is a function of a module; tasks and results must be picklable. What `work` raises is the outcome if it is
    a HarnessError; anything else, and a crash of its process, becomes a HostFault of that task alone. What it does is
    shown with the task's `name`. `given` is told the index of each task before a worker gets it. No worker is left
    when the iterator ends, is closed or is interrupted.
    """
    team = _Team(work, tasks, name, given)
    try:
        yield from team.outcomes(min(workers, len(tasks)))
    finally:
        team.close()


@dataclass
class _Team(Generic[Task, Result]):
    work: Callable[[Task], Result]
    tasks: Sequence[Task]
    name: Callable[[Task], str]
    given: Callable[[int], None]
    workers: list[_Worker[Task, Result]] = field(default_factory=list)
    next: int = 0

    def outcomes(self, count: int) -> Iterator[tuple[int, Result | HarnessError]]:
        for _ in range(count):
            self._start()
        while any(worker.index is not None for worker in self.workers):
            ready = wait([worker.pipe for worker in self.workers])
            for worker in [worker for worker in self.workers if worker.pipe in ready]:
                outcome = self._listen(worker)
                if outcome is not None:
                    yield outcome

    def close(self) -> None:
        """Interrupts those that work, and waits for all."""
        deadline = Deadline.after(_CLEAN_UP_S, "the workers' end")
        for worker in self.workers:
            worker.pipe.close()  # who waits for work ends
            if worker.index is None:
                continue
            progress.show(worker.lane, _OVER)
            if worker.process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.process.pid, signal.SIGINT)
        for worker in self.workers:
            worker.process.join(deadline.remaining())
            if worker.process.is_alive():
                worker.process.kill()  # its QEMU dies with it
                worker.process.join()

    def _start(self) -> None:
        """Starts a worker for the next task, if there is one."""
        if self.next == len(self.tasks):
            return
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_serve, args=(self.work, theirs, progress.level()), daemon=True)
        with theirs, _interrupts_ignored():
            process.start()
        self.workers.append(_Worker(process, ours))
        self._continue(self.workers[-1])

    def _continue(self, worker: _Worker[Task, Result]) -> None:
        """Gives a worker the next task; ends it when there is none."""
        if self.next < len(self.tasks):
            self.given(self.next)
            worker.give(self.next, self.tasks[self.next], self._lane(self.name(self.tasks[self.next])))
            self.next += 1
            return
        self.workers.remove(worker)
        worker.pipe.close()
        worker.process.join()

    def _lane(self, name: str) -> str:
        """What shows a task: its name, with a number where another one has it."""
        taken = {worker.lane for worker in self.workers if worker.index is not None}
        numbered = itertools.chain([name], (f"{name} ({number})" for number in itertools.count(2)))
        return next(lane for lane in numbered if lane not in taken)

    def _listen(self, worker: _Worker[Task, Result]) -> tuple[int, Result | HarnessError] | None:
        assert worker.index is not None  # who has nothing to do is gone
        index = worker.index
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            progress.show(worker.lane, _OVER)
            self.workers.remove(worker)
            worker.process.join()
            self._start()
            return index, _crashed(self.name(self.tasks[index]), worker.process.exitcode)
        if isinstance(message, Message):
            progress.show(worker.lane, message)
            return None
        progress.show(worker.lane, _OVER)
        worker.index = None
        self._continue(worker)
        return index, message.value


def _crashed(name: str, code: int | None) -> HostFault:
    found = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"
    return HostFault(f"the process that did {name} ended", found=found)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A child that is started meanwhile ignores Ctrl-C until it is in a session of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# In the worker


def _serve(work: Callable[[Any], Any], pipe: Connection, level: Level) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    sending = threading.Lock()  # a run has threads that tell something

    def send(what: Message | _Outcome) -> None:
        with sending:
            pipe.send(what)

    progress.relay(send, level)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            send(_Outcome(_outcome(work, pipe.recv())))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(int(Exit.HARNESS_FAULT))


def _outcome(work: Callable[[Any], Any], task: Any) -> Any:
    try:
        result = work(task)
    except HarnessError as error:
        result = error
    except Exception as error:
        result = HostFault(f"the harness failed: {error!r}", evidence=traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(result))
    except Exception as error:
        return HostFault(str(result) if isinstance(result, HarnessError) else f"a result is lost: {error!r}")
    return result
