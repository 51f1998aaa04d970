"""Events from the guest's own tracefs: works on any accelerator and on an unmodified kernel.

The trace clock is `counter`: one atomic counter that every event on every CPU increments when it
reserves its place in the ring buffer (kernel/trace/trace_clock.c), so its value is a total order.
It says nothing about time. The text of trace_pipe is copied to a virtio-serial port, which QEMU
writes to a file on the host.

Sources: Documentation/trace/{ftrace,kprobetrace,events}.rst.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.probes.event import Event
from harness.scenario.check import BOOT
from harness.scenario.kinds import Phase

TRACING = "/sys/kernel/tracing"
PORT = "/dev/virtio-ports/harness.trace"
LAST_PORT = "/dev/ttyS1"

_GROUP = "harness"
_RETURN_SUFFIX = "__return"

# cpuhp: the steps of every hotplug state; console: each printk with its text, so that messages have
# a place in the same order as function calls.
STANDARD_TRACEPOINTS = ("cpuhp:cpuhp_enter", "cpuhp:cpuhp_exit", "printk:console")

# Per CPU. A run of a scenario makes some 10-100 kB of text; a full buffer is reported as lost events.
_BUFFER_KB = 1408

# With 30 ms per message, the events of kvm_shutdown() had left the guest before its reset on 6.1, 6.12 and 7.3. On a
# KVM whose own CPUs are emulated a byte on the serial line takes 1.7 ms, and those of a kexec were cut off.
_PRINTK_DELAY_MS = 30
_PRINTK_DELAY_ON_EMULATED_KVM_MS = 1000


@dataclass(frozen=True)
class KernelProbe:
    """A probe for one kernel: `name` is the scenario's, `symbol` the kernel's, `module` "" for vmlinux."""

    name: str
    symbol: str = ""
    module: str = ""
    tracepoint: str = ""
    fetch: tuple[tuple[str, str], ...] = ()
    void: bool = False  # the function returns nothing: what stands in RAX then is left over from something else

    @property
    def definitions(self) -> list[tuple[str, ...]]:
        """Lines for kprobe_events, for the call and for the return; of each, the first that the kernel takes.

        A kernel that knows the prototype from BTF refuses $retval for a function that returns void
        (register_syscore_ops on Debian's 6.12 and 7.3; 6.1 takes it).
        """
        if self.tracepoint:
            return []
        target = f"{self.module}:{self.symbol}" if self.module else self.symbol
        arguments = "".join(f" {name}={expression}" for name, expression in self.fetch)
        plain_return = f"r:{_GROUP}/{self.name}{_RETURN_SUFFIX} {target}"
        return [
            (f"p:{_GROUP}/{self.name} {target}{arguments}",),
            (plain_return,) if self.void else (f"{plain_return} ret=$retval:x64", plain_return),
        ]


def prepare_script() -> str:
    """A shell script for the guest that sets up what the traces of all runs have in common. Nothing is traced yet.

    Prints a line `refused <tracepoint>` for each of STANDARD_TRACEPOINTS that the kernel does not have.
    """
    lines = [
        f"cd {TRACING} || exit 1",
        "echo 0 > tracing_on; echo > trace",
        "echo counter > trace_clock",
        # Flags between the CPU and the clock would only have to be parsed away.
        "echo 0 > options/irq-info",
        f"echo {_BUFFER_KB} > buffer_size_kb",
        "echo 8 > /proc/sys/kernel/printk",
        # The marks of the steps go through /dev/kmsg, which is rate-limited by default.
        "echo on > /proc/sys/kernel/printk_devkmsg",
        # sysrq-w for when nobody else answers; Debian allows less.
        "echo 1 > /proc/sys/kernel/sysrq",
        *(f"{_enable(tracepoint)} || echo refused {tracepoint}" for tracepoint in STANDARD_TRACEPOINTS),
    ]
    return "\n".join(lines) + "\n"


def arm_script(boot: int, probes: Iterable[KernelProbe]) -> str:
    """A shell script for the prepared guest that arms the probes and starts the stream.

    Prints a line `refused <name>` for each probe that the kernel refuses, and the formats of all that is traced. The
    first event is a mark that says that what follows is of this boot; another mark ends the boot.
    """
    probes = list(probes)
    traced = ["ftrace:print", f"{_GROUP}:*", *STANDARD_TRACEPOINTS, *(probe.tracepoint for probe in probes)]
    lines = [
        f"cd {TRACING}",
        "echo 1 > tracing_on",
        f"echo '{mark('arm', str(boot))}' > trace_marker",
    ]
    for probe in probes:
        for alternatives in probe.definitions:
            tries = [f"echo {shlex.quote(definition)} >> kprobe_events" for definition in alternatives]
            lines.append(" || ".join([*tries, f"echo refused {probe.name}"]))
        if probe.tracepoint:
            lines.append(f"{_enable(probe.tracepoint)} || echo refused {probe.name}")
    if any(probe.definitions for probe in probes):
        lines.append(f"echo 1 > events/{_GROUP}/enable")
    formats = [f"{_folder(tracepoint)}/format" for tracepoint in traced if tracepoint]
    lines += [
        f"cat {' '.join(formats)} 2>/dev/null",
        _stream_to(PORT),
        f"echo '{mark('boot', str(boot))}' > trace_marker",
        'read -r cpus < /sys/devices/system/cpu/online && echo "harness-online $cpus"',
    ]
    return "\n".join(lines) + "\n"


def _enable(tracepoint: str) -> str:
    return f"echo 1 > {_folder(tracepoint)}/enable"


def _folder(tracepoint: str) -> str:
    return f"events/{tracepoint.replace(':', '/')}"


_REFUSED_AT_LOAD = re.compile(r"Failed to re-register probe (\w+) on")


def refused_at_load(console: str) -> set[str]:
    """Names of probes that the kernel took before their module was loaded, and refused when it was.

    kernel/trace/trace_kprobe.c, trace_kprobe_module_callback() says so, in the log only. Without this, a function
    that cannot be probed would pass for one that was never called.
    """
    return {name.removesuffix(_RETURN_SUFFIX) for name in _REFUSED_AT_LOAD.findall(console)}


def _stream_to(port: str) -> str:
    return f"guestctl stream trace_pipe {port} >/dev/null 2>&1 & echo $! > /run/harness-reader"


def finish_script(what: str) -> str:
    """A shell script that stops tracing after a last mark, and prints the statistics of ring buffers and probes."""
    return (
        f"cd {TRACING}; echo '{mark('end', what)}' > trace_marker; echo 0 > tracing_on; "
        "cat per_cpu/cpu*/stats kprobe_profile"
    )


def move_script(boot: int) -> str:
    """A shell script that moves the stream to the serial line, which outlives what a virtio device does not.

    Since 6.15 device_shutdown() resets virtio devices, and syscore_shutdown() comes after that; and 7.3 was seen to
    forget, on resume, that the host has the port open (the writer sleeps in wait_port_writable() for good).
    """
    return "\n".join(
        (
            stop_script(),
            f"cd {TRACING}",
            _stream_to(LAST_PORT),
            f"echo '{mark('boot', str(boot))}' > trace_marker",
        )
    )


def stop_script() -> str:
    """A shell script that ends the stream. The tracer goes on: what comes now stays in the ring buffer."""
    return "read -r reader < /run/harness-reader && kill $reader\nwhile [ -e /proc/$reader ]; do usleep 2000; done"


def section(boot: int) -> str:
    """A line that says of which boot the lines after it are, where the trace itself does not."""
    return f"# boot {boot}"


def slow_messages_script(emulated_kvm: bool = False) -> str:
    """A shell script that makes each kernel message last, for the tracer's reader on another CPU to keep up."""
    delay_ms = _PRINTK_DELAY_ON_EMULATED_KVM_MS if emulated_kvm else _PRINTK_DELAY_MS
    return f"echo {delay_ms} > /proc/sys/kernel/printk_delay"


_LOST_COUNT = re.compile(r"^(?:(?:overrun|dropped events): |\s+\S+\s+\d+\s+)(\d+)$", re.MULTILINE)


def parse_lost(statistics: str) -> int:
    """Sums what `finish_script` printed of lost events.

    per_cpu/cpu*/stats has `overrun` and `dropped events`. kprobe_profile has each probe's hits and misses: a miss is
    a hit that was not traced, in another probe's handler or with no return instance free (kernel/kprobes.c).
    """
    return sum(int(count) for count in _LOST_COUNT.findall(statistics))


def mark(kind: str, what: str) -> str:
    """The text of a mark in the trace: `mark("begin", "load")`."""
    return f"harness:{kind}:{what}"


@dataclass
class Trace:
    """A parsed stream: its events in the order of `seq`, and what is wrong with it."""

    events: list[Event] = field(default_factory=list)
    arrived: dict[int, int] = field(default_factory=dict)  # boot -> events since it was armed, marks included
    lost: dict[int, int] = field(default_factory=dict)  # boot -> events lost while streaming
    garbled: int = 0  # lines that are no event: a stream cut by a reset leaves at most one

    def lose(self, boot: int, count: int) -> None:
        """Counts events of `boot` that were traced and did not arrive."""
        self.lost[boot] = self.lost.get(boot, 0) + count


_LINE = re.compile(r"\s*(?P<task>.+)-(?P<pid>\d+)\s+\[(?P<cpu>\d+)\]\s+(?P<seq>\d+): (?P<name>[\w.]+): ?(?P<rest>.*)")
# Without a number when the ring buffer does not know how many (kernel/trace/trace.c, print_trace_line()).
_LOST = re.compile(r"CPU:\d+ \[LOST (?:(\d+) )?EVENTS\]")
_MARK = re.compile(r"harness:(begin|end|boot|arm):(\S+)")
_SECTION = re.compile(r"# boot (\d+)")
_CPUHP_ENTER = re.compile(r"cpu: (?P<cpu>\d+) target:\s*(?P<target>\d+) step:\s*(?P<step>\d+) \((?P<function>\w+)")
_CPUHP_EXIT = re.compile(r"cpu: (?P<cpu>\d+)\s+state:\s*(?P<state>\d+) step:\s*(?P<step>\d+) ret: (?P<ret>-?\d+)")
_ARGUMENT = re.compile(r"(\w+)=(\"[^\"]*\"|\S+)")


def parse_trace(lines: Iterable[str]) -> Trace:
    """Parses the text that the guest streamed, of all boots of a run, and what was left over.

    Each boot begins with the end of `boot`: what came before the guest was ready was not traced here. What was
    streamed and is left over, too, is there once.
    """
    parser = _Parser()
    for line in lines:
        parser.feed(line)
    trace = parser.trace
    trace.events = list(_with_functions(sorted(trace.events, key=lambda event: event.order or (0, 0))))
    return trace


class _Parser:
    def __init__(self) -> None:
        self.trace = Trace()
        self._boot = 0
        self._begun: set[int] = set()
        self._cut_in = 0  # the boot whose latest line is garbled
        self._known: set[tuple[object, ...]] = set()

    def feed(self, line: str) -> None:
        event, lost = _parse_line(line, self._boot), _LOST.search(line)
        if event is not None:
            self._take(event)
        elif lost is not None:
            self.trace.lose(self._boot, int(lost[1] or 1))
        else:
            self._take_other(line)
            return
        if self._cut_in and self._cut_in == self._boot:  # the boot went on: no reset garbled that line
            self.trace.lose(self._boot, 1)
        self._cut_in = 0

    def _take(self, event: Event) -> None:
        marks_boot = event.name == BOOT
        if marks_boot:
            self._boot = int(event.args["number"])
            event = dataclasses.replace(event, boot=self._boot, args={})
        key = (event.boot, event.seq, event.cpu, event.pid, event.name, event.phase)
        if not self._boot or key in self._known:
            return
        self._known.add(key)
        self.trace.arrived[self._boot] = self.trace.arrived.get(self._boot, 0) + 1
        if marks_boot and (event.phase == "begin" or self._boot in self._begun):
            return  # armed; or a stream that moved, and repeats the mark
        if marks_boot:
            self._begun.add(self._boot)
        if self._boot in self._begun:
            self.trace.events.append(event)

    def _take_other(self, line: str) -> None:
        if section := _SECTION.match(line):
            self._boot = int(section[1])
        elif line.strip() and not line.startswith("#"):
            self.trace.garbled += 1
            self._cut_in = self._boot


def _parse_line(line: str, boot: int) -> Event | None:
    match = _LINE.match(line)
    if match is None:
        return None
    name, rest = match["name"], match["rest"]
    phase: Phase = "point"
    args: dict[str, str | int] = {}
    ret: int | None = None
    if name in ("tracing_mark_write", "print"):
        marked = _MARK.search(rest)
        if marked is None:
            return None
        if marked[1] in ("arm", "boot"):
            name, phase, args = BOOT, "begin" if marked[1] == "arm" else "end", {"number": int(marked[2])}
        else:
            name, phase = marked[2], "begin" if marked[1] == "begin" else "end"
    elif name == "console":
        args = {"text": rest}
    elif name in ("cpuhp_enter", "cpuhp_exit"):
        args, ret = _cpuhp(name, rest)
    elif name.endswith(_RETURN_SUFFIX):
        name, phase = name.removesuffix(_RETURN_SUFFIX), "return"
        value = dict(_ARGUMENT.findall(rest)).get("ret")
        ret = _signed64(value) if value is not None else None
    else:
        phase = "call" if rest.startswith("(") else "point"
        args = {key: value.strip('"') for key, value in _ARGUMENT.findall(rest)}
    return Event(
        boot=boot,
        seq=int(match["seq"]),
        cpu=int(match["cpu"]),
        source="tracefs",
        name=name,
        phase=phase,
        task=match["task"],
        pid=int(match["pid"]),
        args=args,
        ret=ret,
    )


def _cpuhp(name: str, rest: str) -> tuple[dict[str, str | int], int | None]:
    match = (_CPUHP_ENTER if name == "cpuhp_enter" else _CPUHP_EXIT).search(rest)
    if match is None:
        return {}, None
    fields = match.groupdict()
    ret = int(fields.pop("ret")) if "ret" in fields else None
    return {key: value if key == "function" else int(value) for key, value in fields.items()}, ret


def _signed64(text: str) -> int:
    value = int(text, 0)
    return value - (1 << 64) if value >= 1 << 63 else value


def _with_functions(events: Sequence[Event]) -> Iterator[Event]:
    """Gives each cpuhp_exit the function of the cpuhp_enter before it: the tracepoint names only the step."""
    running: dict[tuple[int, str | int, str | int], str | int] = {}
    for event in events:
        if event.name not in ("cpuhp_enter", "cpuhp_exit") or "step" not in event.args:
            yield event
            continue
        key = (event.boot, event.args["cpu"], event.args["step"])
        if event.name == "cpuhp_enter":
            running[key] = event.args["function"]
            yield event
        else:
            yield dataclasses.replace(event, args={**event.args, "function": running.get(key, "")})
