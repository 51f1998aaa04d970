"""Pages of the ring buffer of debian:7.3 at its reset, and what trace_pipe printed of the same events before."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from harness.probes.event import Event
from harness.probes.ring_buffer import RawEvent, decode_page
from harness.probes.trace_format import parse_formats
from harness.probes.tracefs import parse_trace

HERE = Path(__file__).parent
LEFTOVER = json.loads((HERE / "leftover-7.3.json").read_text())
PADDING, TIME_EXTEND, TIME_STAMP = 29, 30, 31


def recorded() -> list[RawEvent]:
    return [
        event
        for cpu, commit, text in LEFTOVER["pages"]
        for event in decode_page(cpu, bytes.fromhex(text).ljust(4096, b"\0"), commit)
    ]


def as_text(events: list[RawEvent]) -> list[str]:
    formats = parse_formats(LEFTOVER["formats"])
    names = {int(address, 16): name for address, name in LEFTOVER["symbols"].items()}
    return [
        f"task-{event.pid} [{event.cpu:03}] {event.seq}: {formats[event.type].name}: "
        f"{formats[event.type].text(event.data, lambda address: names.get(address, '?'))}"
        for event in events
    ]


def seen(event: Event) -> tuple[object, ...]:
    return event.seq, event.cpu, event.pid, event.name, event.phase, tuple(event.args.items()), event.ret


def test_the_pages_say_what_the_kernel_itself_printed() -> None:
    streamed = parse_trace((HERE / "stream-7.3.txt").read_text().splitlines())
    decoded = parse_trace(["# boot 1", *as_text(recorded())])
    told = {seen(event) for event in streamed.events}
    both = {event.seq for event in streamed.events} & {event.seq for event in decoded.events}
    assert len(both) > 100
    assert {seen(event) for event in decoded.events if event.seq in both} == {
        event for event in told if event[0] in both
    }


def test_the_pages_have_what_came_after_the_streams_end() -> None:
    streamed = parse_trace((HERE / "stream-7.3.txt").read_text().splitlines())
    whole = parse_trace([*(HERE / "stream-7.3.txt").read_text().splitlines(), "# boot 1", *as_text(recorded())])
    last = max(event.seq or 0 for event in streamed.events)
    rest = [(event.name, event.phase) for event in whole.events if (event.seq or 0) > last]
    assert rest[-6:] == [
        ("machine_restart", "call"),
        ("console", "point"),
        *[("stopped", "call")] * 3,
        ("emergency", "call"),
    ]
    assert ("devices", "return") in rest


def test_nothing_is_there_twice() -> None:
    lines = [*(HERE / "stream-7.3.txt").read_text().splitlines(), "# boot 1", *as_text(recorded())]
    whole = parse_trace(lines)
    assert len({seen(event) for event in whole.events}) == len(whole.events)
    assert whole.arrived[1] < len(lines)


def record(kind: int, delta: int, *words: int) -> bytes:
    return struct.pack(f"<{1 + len(words)}I", kind | delta << 5, *words)


def page(*records: bytes, stamp: int = 100) -> tuple[bytes, int]:
    data = b"".join(records)
    return (struct.pack("<QQ", stamp, len(data)) + data).ljust(4096, b"\0"), len(data)


def sequence(content: tuple[bytes, int]) -> list[tuple[int, bytes]]:
    return [(event.seq, event.data) for event in decode_page(0, *content)]


def test_the_clock_goes_on_by_deltas_and_by_records_of_time_alone() -> None:
    content = page(record(1, 0, 7), record(TIME_EXTEND, 5, 1), record(2, 1, 8, 9))
    assert sequence(content) == [
        (100, struct.pack("<I", 7)),
        (100 + (1 << 27) + 5 + 1, struct.pack("<II", 8, 9)),
    ]


def test_an_absolute_time_stamp_keeps_the_bits_that_it_has_no_room_for() -> None:
    high = 3 << 59
    content = page(record(TIME_STAMP, 9, 0), record(1, 0, 7), stamp=high | 5)
    assert sequence(content) == [(high | 9, struct.pack("<I", 7))]


def test_a_long_event_has_its_length_in_a_word_of_its_own() -> None:
    assert sequence(page(record(0, 3, 12, 7, 8), record(1, 1, 9))) == [
        (103, struct.pack("<II", 7, 8)),
        (104, struct.pack("<I", 9)),
    ]


def test_what_a_writer_took_back_is_skipped_and_padding_ends_a_page() -> None:
    content = page(record(PADDING, 1, 8, 0), record(1, 1, 7), record(PADDING, 0))
    assert sequence(content) == [(101, struct.pack("<I", 7))]


def test_what_is_not_committed_is_not_there() -> None:
    content, committed = page(record(1, 0, 7), record(1, 1, 8))
    assert [event.seq for event in decode_page(0, content, committed - 8)] == [100]
