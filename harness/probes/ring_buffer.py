"""The kernel's trace ring buffer as it stands in memory, of a kernel that cannot be asked any more.

Each CPU has a ring of pages, and one page apart that the reader has taken out: what it still has to read, then from
`head_page` to `commit_page` what it has not come to. What was read of the reader's page is still in it, too.

Source: kernel/trace/ring_buffer.c. Its structures are found by BTF, so that the layouts of 6.1, 6.12 and 7.3 all do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.machine.memory import Memory

LAYOUT: Mapping[str, tuple[str, ...]] = {
    "trace_array": ("array_buffer.buffer",),
    "trace_buffer": ("buffers",),
    "ring_buffer_per_cpu": (
        *("reader_page", "head_page", "commit_page", "tail_page"),
        *("nr_pages", "entries", "commit_overrun", "dropped_events"),
    ),
    "buffer_page": ("list.next", "list.prev", "write", "page"),
    "buffer_data_page": ("commit",),
}

_PAGE = 4096
_SIZE_MASK = (1 << 20) - 1  # above it are flags of `commit`, and in `write` a count of writers
_LINK_FLAGS = 3  # in the low bits of the ring's links: 1 leads to the head page
_TO_HEAD = 1
_HEADER = struct.Struct("<I")  # type_len in 5 bits, time_delta in 27
# include/linux/ring_buffer.h, enum ring_buffer_type; below them type_len is the length in words.
_PADDING, _TIME_EXTEND, _TIME_STAMP = 29, 30, 31
_ABSOLUTE_BITS = 59  # of an absolute time stamp; the others are those of the one before


@dataclass(frozen=True)
class RawEvent:
    """An event as it was recorded: `seq` is the trace clock's value, `data` begins with struct trace_entry."""

    cpu: int
    seq: int
    data: bytes

    @property
    def type(self) -> int:
        return int.from_bytes(self.data[:2], "little")

    @property
    def pid(self) -> int:
        return int.from_bytes(self.data[4:8], "little", signed=True)


@dataclass(frozen=True)
class CpuBuffer:
    """One CPU's part: the events still there, and how many were written since the buffer was cleared.

    `written` has those that were overwritten since. `lost` counts those that were dropped, and 1 for one that the CPU
    was still writing.
    """

    events: tuple[RawEvent, ...]
    written: int
    lost: int


@dataclass(frozen=True)
class RingBuffer:
    """Reads the buffers of one trace instance; `offsets` are those of LAYOUT."""

    memory: Memory
    offsets: Mapping[str, Mapping[str, int]]

    def buffers(self, instance: int, cpus: int) -> list[CpuBuffer]:
        """The buffers of CPUs 0 to `cpus` - 1, where they exist, of the struct trace_array at `instance`."""
        buffer = self._load("trace_array", "array_buffer.buffer", instance)
        table = self._load("trace_buffer", "buffers", buffer)
        per_cpu = [self.memory.u64(table + 8 * cpu) for cpu in range(cpus)]
        return [self._cpu(cpu, address) for cpu, address in enumerate(per_cpu) if address]

    def _cpu(self, cpu: int, address: int) -> CpuBuffer:
        def value(field: str) -> int:
            return self._load("ring_buffer_per_cpu", field, address)

        events: list[RawEvent] = []
        for page in self._unread_pages(address):
            events += decode_page(cpu, self._page(page), self._commit(page))
        tail = value("tail_page")
        being_written = self._load("buffer_page", "write", tail) & _SIZE_MASK != self._commit(tail)
        lost = value("commit_overrun") + value("dropped_events")
        return CpuBuffer(tuple(events), value("entries"), lost + being_written)

    def _unread_pages(self, cpu_buffer: int) -> Iterator[int]:
        """The reader's page, then the ring from its head to the page that is written to."""
        reader, commit = (
            self._load("ring_buffer_per_cpu", name, cpu_buffer) for name in ("reader_page", "commit_page")
        )
        yield reader
        if reader == commit:
            return
        page = self._head(cpu_buffer)
        for _ in range(self._load("ring_buffer_per_cpu", "nr_pages", cpu_buffer)):
            yield page
            if page == commit:
                return
            page = self._link("next", page)

    def _head(self, cpu_buffer: int) -> int:
        """The page that the flagged link leads to: `head_page` lags behind a writer that has gone around."""
        page = self._load("ring_buffer_per_cpu", "head_page", cpu_buffer)
        for _ in range(self._load("ring_buffer_per_cpu", "nr_pages", cpu_buffer)):
            if self._load("buffer_page", "list.next", self._link("prev", page)) & _LINK_FLAGS == _TO_HEAD:
                return page
            page = self._link("next", page)
        return page

    def _link(self, which: str, page: int) -> int:
        return self._load("buffer_page", f"list.{which}", page) & ~_LINK_FLAGS

    def _commit(self, page: int) -> int:
        data = self._load("buffer_page", "page", page)
        return self._load("buffer_data_page", "commit", data) & _SIZE_MASK

    def _page(self, page: int) -> bytes:
        return self.memory.read(self._load("buffer_page", "page", page), _PAGE)

    def _load(self, structure: str, field: str, address: int) -> int:
        return self.memory.u64(address + self.offsets[structure][field])


_DATA = 16  # offset of data in struct buffer_data_page: a time stamp and a local_t before it


def decode_page(cpu: int, page: bytes, commit: int) -> Iterator[RawEvent]:
    """The events of one page (a struct buffer_data_page), of which `commit` bytes are in use."""
    (seq,) = struct.unpack_from("<Q", page)
    at, end = _DATA, _DATA + commit
    while at + _HEADER.size <= end:
        (header,) = _HEADER.unpack_from(page, at)
        kind, delta = header & 0x1F, header >> 5
        if kind == _PADDING and delta == 0:  # up to the page's end
            return
        (word,) = _HEADER.unpack_from(page, at + 4)
        if kind in (_TIME_EXTEND, _TIME_STAMP):
            stamp = delta | word << 27
            seq = seq + stamp if kind == _TIME_EXTEND else stamp | seq >> _ABSOLUTE_BITS << _ABSOLUTE_BITS
            at += 8
        elif kind == _PADDING:  # taken back by its writer
            at += 4 + word
        else:
            seq += delta
            begin, size = (at + 4, 4 * kind) if kind else (at + 8, word - 4)
            yield RawEvent(cpu, seq, page[begin : begin + size])
            at = begin + size
