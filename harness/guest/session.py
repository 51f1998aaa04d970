"""A scenario's hold on a live guest: the machine, the shell, the actors, and the CPUs that are online."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import progress
from harness.deadline import Deadline
from harness.errors import HostFault
from harness.guest.ssh import Background, CommandResult, Shell
from harness.machine.engine import Engine
from harness.machine.machine import Machine
from harness.observe.console_log import kmsg_mark
from harness.probes import tracefs
from harness.scenario.steps import KVM_VENDOR, GuestStep

_ONLINE = "/sys/devices/system/cpu/online"
_ONLINE_PREFIX = "harness-online "


@dataclass
class Session:
    """What steps work on.

    `online` are the guest's online CPUs as last heard. `background` are the commands that still run, by the id
    of the step or actor that started them; `plugged` the devices of hot-plugged vCPUs, by CPU number.
    """

    machine: Machine
    engine: Engine
    shell: Shell
    snapshot: Path | None = None  # that the first boot goes on from, in place of a boot
    online: tuple[int, ...] = ()
    background: dict[str, Background] = field(default_factory=dict)
    plugged: dict[int, str] = field(default_factory=dict)
    sampled_until: int = 0  # position in the console's lines up to which samples have it
    halted: bool = False  # by `halt`: the CPUs stand still, which QEMU does not report
    when_asleep: Callable[[str, Deadline], None] | None = None  # takes a sample of the suspended machine, by name

    def start(self, deadline: Deadline) -> None:
        """Starts the machine: it boots, or is already where its snapshot was taken. `enter` comes next."""
        if self.snapshot is None:
            self.machine.start(deadline)
        else:
            self.machine.restore(self.snapshot, deadline)

    def enter(self, deadline: Deadline) -> None:
        """Waits for the guest of the present boot, and connects to it."""
        self.machine.wait_ready(deadline)
        self.shell.connect(deadline)

    def module(self, name: str) -> str:
        """The module behind a scenario's name for it: kvm_vendor is kvm_amd or kvm_intel."""
        return self.engine.extension.module if name == KVM_VENDOR else name

    def run(self, script: str, deadline: Deadline) -> CommandResult:
        """Runs a shell script in the guest to its end, unmarked."""
        return self.shell.run(script, deadline)

    def run_marked(self, step_id: str, command: str, deadline: Deadline) -> CommandResult:
        """Runs a step's command between its marks, and notes which CPUs are online after it."""
        progress.detail(f"guest# {command}")
        result = self.shell.run(marked(step_id, command), deadline)
        return self.note_online(result)

    def start_marked(self, step_id: str, command: str, deadline: Deadline) -> Background:
        """Starts a step's command between its marks; it goes on in the background."""
        progress.detail(f"guest# {command} &")
        background = self.shell.start(marked(step_id, command), deadline)
        self.background[step_id] = background
        return background

    def mark(self, kind: str, step_id: str, deadline: Deadline) -> None:
        """Marks the begin or end of a step that is done from outside the guest."""
        self.shell.run(mark_script(kind, step_id), deadline)

    def note_online(self, result: CommandResult) -> CommandResult:
        """Takes the list of online CPUs out of a marked command's output."""
        for line in result.stdout.splitlines():
            if line.startswith(_ONLINE_PREFIX):
                self.online = parse_cpu_list(line.removeprefix(_ONLINE_PREFIX))
        return result


def marked(step_id: str, command: str) -> str:
    """The shell script that brackets `command` with marks in the trace and in the kernel log.

    Only shell built-ins: under TCG a fork and exec costs milliseconds. A command that resets the machine
    leaves no end mark.
    """
    return "\n".join(
        (
            mark_script("begin", step_id),
            command,
            "status=$?",
            mark_script("end", step_id),
            f'read -r cpus < {_ONLINE} && echo "{_ONLINE_PREFIX}$cpus"',
            "exit $status",
        )
    )


def mark_script(kind: str, step_id: str) -> str:
    """The shell commands that mark a step's begin or end, in the trace and in the kernel log."""
    trace = f"echo {tracefs.mark(kind, step_id)} > {tracefs.TRACING}/trace_marker"
    return f"{trace}; echo '{kmsg_mark(kind, step_id)}' > /dev/kmsg"


def pinned(step: GuestStep, command: str) -> str:
    """The command, bound to the step's CPU where it asks for one."""
    return command if step.cpu is None else quoted("taskset", "-c", str(step.cpu), "sh", "-c", command)


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """CPU numbers from the kernel's list format, `0-2,5` (Documentation/admin-guide/cputopology.rst)."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            cpus += range(int(first), int(last or first) + 1)
    return tuple(cpus)


def guestctl_reply(result: CommandResult) -> dict[str, Any]:
    """The JSON object that guestctl printed. Raises HostFault when there is none."""
    for line in result.stdout.splitlines():
        if line.startswith("{"):
            reply = json.loads(line)
            assert isinstance(reply, dict)
            return reply
    raise HostFault(
        "guestctl said nothing",
        expected="one JSON object on stdout",
        found=f"exit status {result.status}: {result.stdout}{result.stderr}",
    )


def quoted(*words: str) -> str:
    """Words as a shell command."""
    return shlex.join(words)
