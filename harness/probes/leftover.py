"""What of a boot's trace nobody read: taken from the ring buffer in the memory of the machine at its end.

A machine of this harness stands still at its reset or power-off, with its memory as the kernel left it. The last
events of a boot, which no task of the guest lives to read, are in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from harness.deadline import Deadline
from harness.kernels.btf import offsets
from harness.kernels.model import Kernel
from harness.machine.machine import Machine
from harness.machine.memory import Memory
from harness.probes.addresses import SymbolTable
from harness.probes.layout import GuestLayout, required
from harness.probes.module_symbols import module_functions, module_name
from harness.probes.ring_buffer import LAYOUT, RawEvent, RingBuffer
from harness.probes.trace_format import TraceFormat

_STRUCTURES: Mapping[str, tuple[str, ...]] = {
    **LAYOUT,
    "saved_cmdlines_buffer": ("map_pid_to_cmdline", "map_cmdline_to_pid", "saved_cmdlines"),
    "trace_kprobe": ("devent.list", "devent.ops", "rp.kp.nmissed", "rp.nmissed"),
}
_VARIABLES = ("global_trace", "savedcmd", "dyn_event_list", "trace_kprobe_ops", "modules")

_PIDS = 32768  # PID_MAX_DEFAULT
_NO_NAME = 0xFFFFFFFF  # NO_CMDLINE_MAP
_NAME_BYTES = 16  # TASK_COMM_LEN
_LIST_MAX = 4096  # a list that is longer does not end


@dataclass(frozen=True)
class Leftover:
    """Lines as trace_pipe would have printed them, and how many events were written since the tracer was armed.

    `lost` counts hits that were not written, or not completely. What is overwritten or of an unknown format was
    written, and is not among the lines.
    """

    lines: tuple[str, ...]
    written: int
    lost: int


@dataclass(frozen=True)
class LeftoverReader:
    """Reads what is left in the top-level trace instance of one kernel."""

    offsets: Mapping[str, Mapping[str, int]]
    variables: Mapping[str, int]
    layout: GuestLayout
    symbols: SymbolTable

    @classmethod
    def of(cls, kernel: Kernel, symbols: SymbolTable) -> Self:
        """Raises HostFault for a kernel without BTF, or without a symbol for each of its variables."""
        variables = {name: required(symbols, name) for name in _VARIABLES}
        return cls(offsets(kernel, _STRUCTURES), variables, GuestLayout.of(kernel, symbols), symbols)

    def read(self, machine: Machine, formats: Mapping[int, TraceFormat], deadline: Deadline) -> Leftover:
        """What is left of the present boot, whose guest no longer runs. `formats` are those of all that is traced.

        Raises HostFault when the guest's memory is not what such a kernel's should be.
        """
        memory = Memory(machine, deadline)
        spec = machine.spec
        ring = RingBuffer(memory, self.offsets)
        buffers = ring.buffers(self.variables["global_trace"], max(spec.cpus, spec.max_cpus))
        text = _Text(self, memory, formats)
        lines = [text.line(event) for buffer in buffers for event in buffer.events]
        lost = sum(buffer.lost for buffer in buffers) + self._missed(memory)
        return Leftover(tuple(filter(None, lines)), sum(buffer.written for buffer in buffers), lost)

    def _missed(self, memory: Memory) -> int:
        """Hits of probes that were not traced, as kprobe_profile counts them."""
        where = self.offsets["trace_kprobe"]
        missed = 0
        for entry in _entries(memory, self.variables["dyn_event_list"]):
            probe = entry - where["devent.list"]
            if memory.u64(probe + where["devent.ops"]) == self.variables["trace_kprobe_ops"]:
                missed += memory.u64(probe + where["rp.kp.nmissed"])
                # An int; 0 for a probe that is not on a return.
                missed += memory.u32(probe + where["rp.nmissed"])
        return missed


class _Text:
    """Events as lines of text, with the names of tasks and functions as the kernel knew them at its end."""

    def __init__(self, reader: LeftoverReader, memory: Memory, formats: Mapping[int, TraceFormat]) -> None:
        self._reader, self._memory, self._formats = reader, memory, formats
        self._functions: dict[int, str] | None = None  # of modules

    def line(self, event: RawEvent) -> str | None:
        """The event as trace_pipe prints it, without arguments where they are not understood; None for no format."""
        kind = self._formats.get(event.type)
        if kind is None:
            return None
        rest = (kind.text(event.data, self._symbol) or "").partition("\n")[0]
        return f"{self._task(event.pid)}-{event.pid} [{event.cpu:03}] {event.seq}: {kind.name}: {rest}"

    def _task(self, pid: int) -> str:
        """kernel/trace/trace_sched_switch.c, __trace_find_cmdline()."""
        if pid == 0:
            return "<idle>"
        memory, where = self._memory, self._reader.offsets["saved_cmdlines_buffer"]
        saved = memory.u64(self._reader.variables["savedcmd"])
        place = memory.u32(saved + where["map_pid_to_cmdline"] + 4 * (pid % _PIDS))
        if place == _NO_NAME or memory.u32(memory.u64(saved + where["map_cmdline_to_pid"]) + 4 * place) != pid:
            return "<...>"
        return memory.string(saved + where["saved_cmdlines"] + _NAME_BYTES * place)

    def _symbol(self, address: int) -> str:
        if (name := self._reader.symbols.at(address)) is not None:
            return name
        if self._functions is None:
            self._functions = dict(self._module_functions())
        return self._functions.get(address, f"{address:#x}")

    def _module_functions(self) -> Iterator[tuple[int, str]]:
        layout = self._reader.layout
        for entry in _entries(self._memory, self._reader.variables["modules"]):
            module = entry - layout.module_list
            name = module_name(self._memory, layout, module)
            for function in module_functions(self._memory, layout, module, name):
                yield function.address, function.name


def _entries(memory: Memory, head: int) -> Sequence[int]:
    """The entries of a struct list_head."""
    entries: list[int] = []
    entry = memory.u64(head)
    while entry != head and len(entries) < _LIST_MAX:
        entries.append(entry)
        entry = memory.u64(entry)
    return entries
