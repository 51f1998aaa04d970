"""Holding tasks with QEMU's gdbstub: on any accelerator, and the only way to stop a vCPU itself.

A breakpoint at the point stops the machine; who came is read out of its memory. Whoever is not meant goes on after a
single step, alone. A task that is meant is sent into a loop in kernel text that never runs (soft, busy:
harness/probes/spin.py), or its vCPU is left out of everything that resumes the machine (hard).

One thread talks to the stub; the calls of others wait for it. What it does is written to holds.jsonl in the format of
the plugin's file, with the trace clock as it stood meanwhile, so that held, released and lost have their place in the
order of the guest's own events (harness/probes/platform_log.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HarnessError, HostFault, NotExercised
from harness.kernels.model import Kernel
from harness.machine.machine import Machine
from harness.machine.state import State
from harness.platform.link import EVENTS as PLATFORM_LOG
from harness.probes import module_symbols, passing, spin
from harness.probes.addresses import NoFunction, SymbolTable
from harness.probes.gdb_remote import (
    SIGINT,
    SIGQUIT,
    SIGTRAP,
    CpuState,
    GdbLost,
    GdbRefused,
    GdbRemote,
    Stop,
    StoppedMemory,
)
from harness.probes.layout import GuestLayout, VirtualMemory, required
from harness.probes.passing import Condition, Task
from harness.probes.points import ArmedPoint, Held

HOLDS_LOG = "holds.jsonl"  # in the run's folder

_STUB_S = 20.0  # for what is done between a stop and the resumption; it takes milliseconds
_CHECK_S = 0.2  # between two looks at whether the stub still answers
_LOOK_S = 0.5  # between two looks at which boot it is
# When two CPUs come to a breakpoint at once, QEMU (11.1) may keep the second one's wish to stop until it has stopped
# for the first, and then stops again before the step has begun. It keeps one.
_STEPS = 2
_AGAIN_S = 0.001  # between two stops, when every CPU was in user mode with the kernel unmapped


@dataclass(frozen=True)
class _Visit:
    """A task at an instruction. The stack tells calls of one function by one task apart."""

    address: int
    rsp: int
    task: int


@dataclass(frozen=True)
class _Hold:
    """A hold in force. `slot` is where the task waits; a hard hold has none."""

    held: Held
    visit: _Visit
    boot: int
    slot: spin.Slot | None = None


@dataclass
class _Point:
    """An armed point, and how far it has come."""

    armed: ArmedPoint
    boot: int  # in which it was armed: with an actor's pid it is for this one only
    conditions: tuple[Condition, ...]
    places: set[int] = field(default_factory=set)  # where it is looked for: none once somebody is held
    hits: int = 0
    back: _Visit | None = None  # where a call that passed the filters will come back to
    hold: _Hold | None = None
    told: bool = False  # that somebody is held: not before the machine goes on
    lost: bool = False
    refused: str = ""  # why nobody can be held there

    @property
    def spent(self) -> bool:
        """Whether it looks for nobody any more."""
        return self.back is not None or self.hold is not None

    def waits_in(self, slot: spin.Slot) -> bool:
        """Whether somebody who is held here is in the slot; after a reset the same slots serve again."""
        return self.hold is not None and not self.lost and self.hold.slot == slot

    @property
    def breakpoints(self) -> set[int]:
        return self.places | ({self.back.address} if self.back else set())


@dataclass
class _Request:
    """Something to be done while the machine stands still."""

    work: Callable[[Deadline], None]
    error: HarnessError | None = None
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class _Passing:
    """A task on a CPU at a breakpoint, while the machine stands still."""

    cpu: int
    state: CpuState
    task: Task
    visit: _Visit
    memory: StoppedMemory


class GdbHolder:
    """A holder (harness/probes/points.py) for one machine that runs. The kernel needs nokaslr."""

    name = "gdbstub"

    def __init__(self, machine: Machine, kernel: Kernel, symbols: SymbolTable, deadline: Deadline) -> None:
        """Opens the gdbstub. `symbols` are the kernel's own. Raises HostFault, DeadlineExceeded."""
        self._machine = machine
        self._symbols = symbols
        self._layout = GuestLayout.of(kernel, symbols)
        self._clock = required(symbols, "trace_counter")
        self._module_begins = required(symbols, module_symbols.MODULE_BEGINS)
        self._modules = required(symbols, "modules")
        self._slots = iter(spin.slots(symbols))
        self._boot = machine.boot.number
        self._points: dict[str, _Point] = {}
        self._hard: dict[int, set[str]] = {}  # CPU -> the points that it is held at
        self._let_go: set[_Visit] = set()  # visits that come to their breakpoint again, after their release
        self._breakpoints: dict[int, bool] = {}  # address -> whether the CPU's own
        self._to_step: tuple[int, int] | None = None  # the CPU that has hit a breakpoint and is to go on, and where
        self._running = False
        self._ended = False  # the machine is at its reset or power-off
        self._standing = False  # somebody wants it to stand still
        self._failure: HostFault | None = None
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._log = (machine.run / HOLDS_LOG).open("a", buffering=1)
        # It stands still while the machine does: where it ends (`after`) is the place of a hold in its order.
        self._platform_log = machine.run / PLATFORM_LOG
        self._lines = 0
        self._remote = GdbRemote(machine.open_gdb(self, deadline), deadline)
        self._bell_out, self._bell_in = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="gdbstub", daemon=True)
        self._thread.start()

    # The holder

    def arm(self, point: ArmedPoint, deadline: Deadline) -> None:
        """Arms a point; in a module that is not loaded yet, when it is. Raises NotExercised where it cannot be."""
        made = _Point(point, self._machine.boot.number, passing.conditions(point, self._symbols.variable))
        try:
            if not point.module:
                made.places = _entries(made, self._symbols)
        except NoFunction as error:
            raise _cannot(point, str(error)) from error

        def work(patience: Deadline) -> None:
            if point.module:
                memory = self._kernel_memory(patience)
                module = module_symbols.find_module(memory, self._layout, self._modules, point.module)
                if module is not None:
                    self._place_in_module(made, memory, module)
            self._points[point.name] = made

        self._ask(work, deadline)

    def held(self, name: str) -> Held | None:
        """Who is held at the point, if somebody is. Raises NotExercised when its module came, and lacks it."""
        point = self._points.get(name)
        if point is not None and point.refused:
            raise _cannot(point.armed, point.refused)
        return point.hold.held if point and point.hold and point.told and not point.lost else None

    def release(self, name: str, deadline: Deadline) -> None:
        """Disarms the point, and lets go whoever is held there, in one step. Nothing to do is no error."""
        if name in self._points:
            self._ask(lambda patience: self._release(name, patience), deadline)

    def lost(self) -> tuple[str, ...]:
        """The points whose task was lost to a reset, a power-off or a new kernel while it was held."""
        return tuple(name for name, point in list(self._points.items()) if point.lost)

    def check(self) -> None:
        """Raises the HostFault that ended the holder, if one did."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Lets everybody go and ends. Safe more than once."""
        if not self._thread.is_alive() and self._log.closed:
            return
        with contextlib.suppress(HarnessError):
            self._ask(self._release_all, Deadline.after(_STUB_S, "letting go of everybody"))
        self._requests.put(None)
        os.write(self._bell_in, b"x")
        self._thread.join()
        self._machine.forget_debugger()
        self._remote.close()
        self._log.close()
        os.close(self._bell_in)
        os.close(self._bell_out)

    # For the machine (harness/machine/machine.py, Debugger)

    def stand_still(self, deadline: Deadline) -> None:
        """Stops the machine, and leaves it so until `go_on`."""
        self._ask(lambda _: self._stand(True), deadline)

    def go_on(self, deadline: Deadline) -> None:
        """Lets the machine go on, or takes over one that was resumed in another way."""

        def work(patience: Deadline) -> None:
            if self._machine.qmp.execute("query-status", patience)["running"]:
                self._halt(patience)
            self._ended = False
            self._stand(False)

        self._ask(work, deadline)

    def _stand(self, standing: bool) -> None:
        self._standing = standing

    # The thread that talks to the stub

    def _ask(self, work: Callable[[Deadline], None], deadline: Deadline) -> None:
        """Has `work` done while the machine stands still, and returns when it goes on. Raises what `work` raises."""
        self.check()
        request = _Request(work)
        self._requests.put(request)
        os.write(self._bell_in, b"x")
        while not request.done.wait(min(_CHECK_S, deadline.remaining())):
            self.check()
            deadline.check("the thread that talks to QEMU's gdbstub is busy")
        self.check()
        if request.error is not None:
            raise request.error

    def _serve(self) -> None:
        try:
            self._go(_soon())
            while self._turn():
                pass
        except HostFault as error:
            self._failure = error
        except Exception:  # whatever it is, the run must not go on without its holds
            self._failure = HostFault("holding tasks by QEMU's gdbstub failed", evidence=traceback.format_exc())
        finally:
            while not self._requests.empty():
                if request := self._requests.get():
                    request.done.set()
            self._machine.ring()

    def _turn(self) -> bool:
        """Waits for the next stop or request, and deals with it; False when there are to be no more."""
        ready = select.select((self._remote.fileno(), self._bell_out), (), (), _LOOK_S)[0]
        if self._machine.boot.number != self._boot:
            self._serve_one(_Request(self._new_kernel))
            return True  # what was ready has been read by the way
        deadline = _soon()
        if self._remote.fileno() in ready:
            if stop := self._remote.poll(deadline):
                self._note(stop, deadline, asked=False)
                self._go(deadline)
        elif self._bell_out in ready:
            os.read(self._bell_out, 1)
            request = self._requests.get()
            if request is None:
                return False
            self._serve_one(request)
        return True

    def _serve_one(self, request: _Request) -> None:
        deadline = _soon()
        asleep = self._machine.state is State.SUSPENDED  # the stub listens then, and there is nothing to stop
        if self._running and not asleep:
            self._halt(deadline)
        try:
            request.work(deadline)
        except (GdbLost, DeadlineExceeded):  # nobody knows how far the stub got
            raise
        except HarnessError as error:
            request.error = error
        if asleep:
            self._place_breakpoints(deadline)
        else:
            self._go(deadline)
        request.done.set()

    def _halt(self, deadline: Deadline) -> None:
        """Stops the machine. A breakpoint may come first; then it is dealt with."""
        self._remote.interrupt(deadline)
        self._note(self._remote.stopped(deadline), deadline, asked=True)

    def _note(self, stop: Stop, deadline: Deadline, *, asked: bool) -> None:
        """Deals with a stop; the machine stands still afterwards."""
        self._running = False
        if stop.signal == SIGTRAP:
            self._hit(stop.cpu, deadline)
        elif stop.signal == SIGQUIT:
            self._ended = True
            self._lose(deadline)
        elif stop.signal != SIGINT or not asked:
            raise HostFault(
                "QEMU stopped the machine",
                expected="a breakpoint, or the machine's end",
                found=f"signal {stop.signal} from the gdbstub",
                hint="pause() of the machine is safe while tasks are held; QMP's stop is not",
            )

    def _go(self, deadline: Deadline) -> None:
        """Lets every CPU go on that may, and then tells who is held.

        Not earlier: a reset that somebody asks QEMU for while the stub has stopped the machine is lost.
        """
        if not (self._running or self._ended or self._standing):
            self._resume(deadline)
        for point in self._points.values():
            if point.hold is not None and not point.told:
                point.told = True
                self._machine.ring()

    def _resume(self, deadline: Deadline) -> None:
        self._place_breakpoints(deadline)
        if self._to_step is not None:
            self._step_over(*self._to_step, deadline)
            self._to_step = None
        cpus = set(self._remote.cpus(deadline)) - self._hard.keys() if self._hard else None
        if cpus is None or cpus:
            self._remote.resume(cpus, deadline)
            self._running = True

    def _step_over(self, cpu: int, address: int, deadline: Deadline) -> None:
        """Executes the instruction at the breakpoint that the CPU has hit, while all others stand still."""
        hardware = self._breakpoints.get(address)
        if hardware is not None:
            self._remote.clear_breakpoint(address, deadline, hardware=hardware)
            for _ in range(_STEPS):
                self._remote.step(cpu, deadline)
                self._remote.select(cpu, deadline)
                if self._remote.state(deadline).rip != address:
                    break
            self._remote.set_breakpoint(address, deadline, hardware=hardware)

    def _place_breakpoints(self, deadline: Deadline) -> None:
        """Makes the stub's breakpoints those that are needed."""
        points = self._points.values()
        wanted = {address for point in points for address in point.breakpoints}
        if any(point.armed.module and not point.spent for point in points):
            wanted.add(self._module_begins)
        for address in self._breakpoints.keys() - wanted:
            self._remote.clear_breakpoint(address, deadline, hardware=self._breakpoints.pop(address))
        self._let_go = {visit for visit in self._let_go if visit.address in wanted}
        for address in wanted - self._breakpoints.keys():
            self._breakpoints[address] = self._set_breakpoint(address, deadline)

    def _set_breakpoint(self, address: int, deadline: Deadline) -> bool:
        """Sets one of the CPU's own where there is one left; returns whether it is. KVM has four, TCG any number."""
        try:
            self._remote.set_breakpoint(address, deadline, hardware=True)
        except GdbRefused:
            self._remote.set_breakpoint(address, deadline, hardware=False)
            return False
        return True

    # At a breakpoint

    def _hit(self, cpu: int, deadline: Deadline) -> None:
        """Somebody came to a breakpoint: one of a point, of a return, or where a module begins."""
        if cpu in self._hard:  # it was told of before (_STEPS), and stands still
            return
        self._remote.select(cpu, deadline)
        state = self._remote.state(deadline)
        # Another CPU may have come to a breakpoint in the moment in which it was no longer needed.
        if state.rip not in self._breakpoints:
            return
        memory = StoppedMemory(self._remote, deadline)
        if state.rip == self._module_begins:
            self._module_loads(memory, state.general["rdi"])
        task = Task.current(state.gs_base, memory, self._layout)
        visit = _Visit(state.rip, state.rsp, task.address)
        self._to_step = (cpu, state.rip)
        if visit in self._let_go:  # it was counted when it came to be held
            self._let_go.remove(visit)
            return
        passing_by = _Passing(cpu, state, task, visit, memory)
        if held_at := [point for point in self._points.values() if self._is_the_one(point, passing_by)]:
            self._hold(held_at, passing_by)

    def _is_the_one(self, point: _Point, by: _Passing) -> bool:
        """Whether this visit is to be held, here and now."""
        if by.visit == point.back:
            return True
        if by.state.rip not in point.places or not self._passes(point, by):
            return False
        point.hits += 1
        if point.hits < point.armed.hit:
            return False
        point.places = set()
        if point.armed.phase == "call":
            return True
        # What traces returns puts its own address on the stack, but later: it is called by the function.
        address = by.memory.u64(by.state.rsp)
        if address is None:
            raise HostFault("the stack of a task cannot be read", found=f"{by.task.comm} at {by.state.rsp:#x}")
        point.back = _Visit(address, by.state.rsp + 8, by.task.address)
        return False

    def _passes(self, point: _Point, by: _Passing) -> bool:
        armed = point.armed
        return (
            armed.cpu in (None, by.cpu)
            and armed.task in ("", by.task.comm)
            and (not armed.pid or point.boot == self._boot)
            and (not armed.pid or by.task.descends_from(armed.pid, by.memory, self._layout))
            and all(condition.holds(by.state.general, by.memory) for condition in point.conditions)
        )

    def _hold(self, points: list[_Point], by: _Passing) -> None:
        """Holds the task at all these points; it goes on when the last of them is released."""
        count = passing.preempt_count(by.state.gs_base, by.memory, self._layout)
        soft = any(point.armed.mode != "hard" for point in points)
        slot = self._send_to_slot(by) if soft else None
        for point in points:
            hard = point.armed.mode == "hard"
            held = Held(point.armed.name, by.cpu, by.task.comm, by.task.pid, count, by.state.interrupts)
            point.hold = _Hold(held, by.visit, self._boot, None if hard else slot)
            point.back = None
            if hard:
                self._hard.setdefault(by.cpu, set()).add(point.armed.name)
            self._write(point.hold, "held", by.cpu, by.memory)
        if soft or by.cpu in self._hard:
            self._to_step = None

    def _send_to_slot(self, by: _Passing) -> spin.Slot:
        """Has the CPU go on in a loop instead of where it is."""
        address = next(self._slots, None)
        if address is None:
            raise HostFault(
                "too many tasks were held in one boot", hint="the kernel has no more room for them to wait"
            )
        slot = spin.Slot(address, by.state.interrupts)
        remote, deadline = by.memory.remote, by.memory.deadline
        remote.write(address, slot.waiting, deadline)
        remote.set_register("rip", address, deadline)
        return slot

    # Modules

    def _module_loads(self, memory: StoppedMemory, module: int) -> None:
        name = module_symbols.module_name(memory, self._layout, module)
        functions = list(module_symbols.module_functions(memory, self._layout, module, name))
        for point in self._points.values():
            if point.armed.module == name and not point.spent:
                self._place_in_module(point, memory, module)
            elif point.armed.module:  # its module may be gone, and this one in its place
                point.places = {at for at in point.places if not any(function.covers(at) for function in functions)}

    def _place_in_module(self, point: _Point, memory: VirtualMemory, module: int) -> None:
        """Looks for the point in the struct module at `module`."""
        functions = module_symbols.module_functions(memory, self._layout, module, point.armed.module)
        table = SymbolTable((function.name, function.address, True) for function in functions)
        try:
            point.places = _entries(point, table)
        except NoFunction as error:
            point.refused = str(error)

    # While the machine stands still

    def _kernel_memory(self, deadline: Deadline) -> StoppedMemory:
        """The memory as a CPU sees it that has the kernel mapped.

        None may have: in user mode the kernel is not there (page table isolation), nor before paging is on.
        """
        memory = StoppedMemory(self._remote, deadline)
        while True:
            for cpu in self._remote.cpus(deadline):
                self._remote.select(cpu, deadline)
                if memory.u64(self._clock) is not None:
                    return memory
            deadline.check("no CPU has the kernel mapped")
            if self._ended or self._standing:
                raise HostFault("no CPU has the kernel mapped, and the machine stands still")
            self._go(deadline)
            deadline.pause(_AGAIN_S)
            self._halt(deadline)

    def _release(self, name: str, deadline: Deadline) -> None:
        point = self._points[name]
        if point.lost:
            return
        del self._points[name]
        if (hold := point.hold) is None:
            return
        memory = self._kernel_memory(deadline)
        cpu = memory.read_virtual(hold.visit.task + self._layout.task_cpu, 4)
        self._write(hold, "released", int.from_bytes(cpu, "little") if cpu else hold.held.cpu, memory)
        if hold.slot is None:
            self._hard[hold.held.cpu].remove(name)
            if not self._hard[hold.held.cpu]:
                del self._hard[hold.held.cpu]
        elif not any(other.waits_in(hold.slot) for other in self._points.values()):
            self._remote.write(hold.slot.address, hold.slot.leaving(hold.visit.address), deadline)
        self._let_go.add(hold.visit)

    def _release_all(self, deadline: Deadline) -> None:
        for name in list(self._points):
            self._release(name, deadline)
        self._place_breakpoints(deadline)  # a machine that is at its end has them still when it boots again

    def _lose(self, deadline: Deadline) -> None:
        """Whoever is held is no more: the machine is at its reset, or another kernel has begun."""
        memory = StoppedMemory(self._remote, deadline)
        for point in self._points.values():
            if point.hold is not None and not point.lost:
                point.lost = True
                self._write(point.hold, "lost", point.hold.held.cpu, memory)
        self._hard.clear()
        self._let_go.clear()
        self._to_step = None
        self._machine.ring()

    def _new_kernel(self, deadline: Deadline) -> None:
        """Another kernel: held tasks are gone with the old one, and modules are not loaded yet."""
        self._lose(deadline)
        self._boot = self._machine.boot.number
        self._slots = iter(spin.slots(self._symbols))
        for point in self._points.values():
            point.back = None
            if point.armed.module:
                point.places = set()

    def _write(
        self, hold: _Hold, phase: Literal["held", "released", "lost"], cpu: int, memory: VirtualMemory
    ) -> None:
        held = hold.held
        line = {
            "seq": self._lines,
            "boot": hold.boot,
            "inc": 0,
            "counter": memory.u64(self._clock) or 0,
            "cpu": cpu,
            "name": held.point,
            "phase": phase,
            "task": held.task,
            "pid": held.pid,
            "after": self._platform_log.stat().st_size if self._platform_log.exists() else 0,
        }
        self._log.write(json.dumps(line) + "\n")
        self._lines += 1


def _entries(point: _Point, symbols: SymbolTable) -> set[int]:
    """Where calls of the point's function arrive. Raises NoFunction."""
    places = symbols.function(point.armed.symbol)
    if any(condition.by_register for condition in point.conditions) and not all(place.exact for place in places):
        raise NoFunction(f"the compiler changed what {point.armed.symbol} takes; its arguments cannot be looked at")
    return {place.address for place in places}


def _cannot(point: ArmedPoint, why: str) -> NotExercised:
    return NotExercised(f"no task can be held at point {point.name} ({point.symbol}): {why}")


def _soon() -> Deadline:
    return Deadline.after(_STUB_S, "QEMU's gdbstub")
