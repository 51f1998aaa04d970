"""How each kind of step is done in a live guest.

`perform` answers with a `Result`; what the kernel refuses is a result (an errno), not an exception.
Exceptions are for what ends the run: a dead kernel, a dead host, something that this engine cannot do.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from functools import singledispatch

from harness.deadline import Deadline
from harness.guest.outcome import FAILED, OK
from harness.guest.session import Session, guestctl_reply, parse_cpu_list, pinned, quoted
from harness.guest.ssh import Background, CommandResult
from harness.machine.ending import GuestOutOfReach
from harness.machine.state import State
from harness.scenario.check import asleep_sample
from harness.scenario.kinds import kernel_errno
from harness.scenario.steps import (
    Close,
    GuestStep,
    Halt,
    Kexec,
    Load,
    Offline,
    Online,
    Panic,
    Plug,
    Poweroff,
    Reboot,
    Run,
    Step,
    Suspend,
    Unload,
    Unplug,
    Until,
    Vm,
    Wrmsr,
)

_CPU_DIR = "/sys/devices/system/cpu"
_LOOK_S = 0.05
# Looks in a row that find every CPU halted: the devices' suspend, which takes 0.3 s under TCG, keeps one busy.
_IDLE_LOOKS = 5

# A look at the registers stops every vCPU, for a quarter of a second where KVM's host is emulated: a guest that was
# looked at all the time had not frozen its tasks after two minutes.
_REST = 4.0

# Modules that steps load beside what the guest image always carries.
EXTRA_MODULES: dict[type[Step], tuple[str, ...]] = {Suspend: ("button",)}


@dataclass(frozen=True)
class Result:
    """What a step gave: OK, an errno name or FAILED, and one line about it."""

    value: str = OK
    detail: str = ""


# --- the command of a step that one command in the guest carries out ------------------------------------------


@singledispatch
def command(step: GuestStep, session: Session) -> str:
    """The shell command that does `step` in the guest."""
    raise AssertionError(f"no command for {type(step).__name__}")


@command.register
def _(step: Load, session: Session) -> str:
    params = [f"{name}={value}" for name, value in step.params.items()]
    return quoted("guestctl", "load", session.module(step.module), *params)


@command.register
def _(step: Unload, session: Session) -> str:
    return quoted("guestctl", "unload", *(session.module(module) for module in step.modules))


@command.register
def _(step: Vm, session: Session) -> str:
    # The VM stays open in the background; the step is done when guestctl has said how opening it went.
    path = _vm_path(step.id)
    create = quoted("guestctl", "vm", "--vcpus", str(step.vcpus), "--hold", path)
    wait = f"until read -r line <{path}.out; do kill -0 $! || break; usleep 2000; done"
    return f'{create} </dev/null >{path}.out 2>&1 & {wait}; echo "$line"'


def _vm_path(step_id: str) -> str:
    return f"/run/vm-{step_id}"


@command.register
def _(step: Close, session: Session) -> str:
    return quoted("guestctl", "vm-close", _vm_path(step.vm))


@command.register
def _(step: Offline, session: Session) -> str:
    return quoted("guestctl", "write", f"{_CPU_DIR}/cpu{step.target}/online", "0")


@command.register
def _(step: Online, session: Session) -> str:
    return quoted("guestctl", "write", f"{_CPU_DIR}/cpu{step.target}/online", "1")


@command.register
def _(step: Suspend, session: Session) -> str:
    sleep = "deep" if step.mode == "mem" else "s2idle"
    # The button driver, a module on Debian, makes the power button wake the machine from s2idle.
    return "; ".join(
        (
            "guestctl load button >/dev/null",
            # A test level stays asleep for 5 s by default (kernel/power/suspend_test.c).
            "echo 1 > /sys/module/suspend/parameters/pm_test_delay",
            f"echo {step.pm_test or 'none'} > /sys/power/pm_test",
            f"echo {sleep} > /sys/power/mem_sleep",
            quoted("guestctl", "write", "/sys/power/state", "mem"),
        )
    )


@command.register
def _(step: Reboot, session: Session) -> str:
    return "reboot -f" if step.how == "force" else "reboot"


@command.register
def _(step: Poweroff, session: Session) -> str:
    return "poweroff -f" if step.how == "force" else "poweroff"


@command.register
def _(step: Halt, session: Session) -> str:
    return "halt -f" if step.how == "force" else "halt"


@command.register
def _(step: Run, session: Session) -> str:
    return quoted("sh", "-c", step.command)


@command.register
def _(step: Kexec, session: Session) -> str:
    return f"{_load_kexec('-l')} && kexec -e"


@command.register
def _(step: Panic, session: Session) -> str:
    first = f"{_load_kexec('-p', 'harness.crash')} && " if step.crash_kernel else ""
    return f"{first}echo c > /proc/sysrq-trigger"


def _load_kexec(how: str, cmdline: str = "") -> str:
    """Loads the machine's own kernel and initramfs, which it offers as disks, by kexec_file_load(2)."""
    append = f' --append="{cmdline}"' if cmdline else ""
    return (
        "guestctl load virtio_blk && cat /dev/vda > /tmp/kernel && cat /dev/vdb > /tmp/initrd && "
        f"kexec -s {how} /tmp/kernel --initrd=/tmp/initrd --reuse-cmdline{append}"
    )


@command.register
def _(step: Wrmsr, session: Session) -> str:
    place = f"{step.target} {step.msr:#x}"
    if step.value is not None:
        return f"guestctl wrmsr {place} {step.value:#x}"
    # The shell's arithmetic is 64 bits wide and signed, which the bit operations do not mind.
    read = f'old=$(guestctl rdmsr {place}) && old=${{old#*\\"value\\": \\"}} && old=${{old%%\\"*}}'
    return f"{read} && guestctl wrmsr {place} $(( (old | {step.set_bits:#x}) & ~{step.clear_bits:#x} ))"


# --- performing a step ----------------------------------------------------------------------------------------


@singledispatch
def perform(step: Step, session: Session, deadline: Deadline) -> Result:
    """Does `step`. Raises KernelFault, HostFault or NotExercised for what ends the run."""
    raise AssertionError(f"no action for {type(step).__name__}")


@perform.register
def _(step: GuestStep, session: Session, deadline: Deadline) -> Result:
    return result_of(step, session.run_marked(step.id, pinned(step, command(step, session)), deadline))


def result_of(step: GuestStep, done: CommandResult) -> Result:
    """The result of a step whose command has ended."""
    if isinstance(step, (Run, Reboot, Poweroff, Kexec)):  # the others are guestctl's
        return Result() if done.status == 0 else Result(FAILED, f"exit status {done.status}: {done.output.strip()}")
    reply = guestctl_reply(done)
    if reply["errno"] == 0:
        return Result()
    where = [f"{key} {reply[key]}" for key in ("failed", "step") if reply.get(key)]
    return Result(kernel_errno(str(reply["errno_name"])), ", ".join([str(reply["target"]), *where]))


@perform.register
def _(step: Suspend, session: Session, deadline: Deadline) -> Result:
    background = session.start_marked(step.id, pinned(step, command(step, session)), deadline)
    if step.pm_test is None:
        _sleep_and_wake(step, session, deadline)
    return result_of(step, session.note_online(_finished(session, step.id, background, deadline)))


def _sleep_and_wake(step: Suspend, session: Session, deadline: Deadline) -> None:
    """Waits until the guest sleeps or has refused to, and wakes it: from S3 by QMP, from s2idle by the power button.

    In s2idle QEMU sees no suspend; the CPUs just stay in the idle loop.
    """
    machine, background = session.machine, session.background[step.id]
    idle = 0
    while background.poll(deadline) is None:
        began = time.monotonic()
        if machine.check(State.SUSPENDED) is State.SUSPENDED:
            if session.when_asleep is not None:
                session.when_asleep(asleep_sample(step.id), deadline)
            machine.wake_up(deadline)
            return
        if step.mode == "s2idle" and machine.console.find(r"PM: suspend entry \(s2idle\)", machine.boot.console):
            idle = idle + 1 if all(cpu.halted for cpu in machine.registers(deadline)) else 0
            if idle >= _IDLE_LOOKS:
                machine.qmp.execute("system_powerdown", deadline)
                idle = 0
        deadline.check("the guest neither slept nor refused to")
        deadline.pause(max(_LOOK_S, _REST * (time.monotonic() - began)))


def _finished(session: Session, step_id: str, background: Background, deadline: Deadline) -> CommandResult:
    done = background.wait(deadline)
    background.close()
    del session.background[step_id]
    return done


def _end_boot(step: GuestStep, session: Session, state: State, deadline: Deadline) -> Result:
    """Starts a command that ends the boot, and waits for the end that it should bring about."""
    session.machine.expect(state)
    session.start_marked(step.id, pinned(step, command(step, session)), deadline)
    session.machine.wait(state, deadline=deadline)
    return Result()


@perform.register
def _(step: Reboot, session: Session, deadline: Deadline) -> Result:
    return _end_boot(step, session, State.RESET, deadline)


@perform.register
def _(step: Poweroff, session: Session, deadline: Deadline) -> Result:
    return _end_boot(step, session, State.OFF, deadline)


@perform.register
def _(step: Halt, session: Session, deadline: Deadline) -> Result:
    session.start_marked(step.id, pinned(step, command(step, session)), deadline)
    session.machine.wait_console(r"reboot: System halted", deadline)
    session.halted = True
    return Result()


# kernel/kexec_core.c says this last, with the old kernel's tracing already at its end.
KEXEC_JUMPS = re.compile("Starting new kernel")


@perform.register
def _(step: Kexec, session: Session, deadline: Deadline) -> Result:
    machine = session.machine
    machine.announce_boot(deadline)
    jump = session.start_marked(step.id, pinned(step, command(step, session)), deadline)
    while machine.console.find(KEXEC_JUMPS, machine.boot.console) is None:
        machine.check()
        # The server's last words may get lost on the way down: that says nothing yet.
        with contextlib.suppress(GuestOutOfReach):
            if (refused := jump.poll(deadline)) is not None:
                machine.withdraw_boot(deadline)
                return Result(FAILED, f"exit status {refused.status}: {refused.output.strip()}")
        deadline.check("the kernel neither refused the kexec nor jumped")
        deadline.pause(_LOOK_S)
    machine.begin_boot()
    return Result()


@perform.register
def _(step: Panic, session: Session, deadline: Deadline) -> Result:
    machine = session.machine
    machine.expect(State.PANICKED, State.CRASH_KERNEL)
    session.start_marked(step.id, pinned(step, command(step, session)), deadline)
    if step.crash_kernel:
        machine.wait_crash_kernel(deadline)
    else:
        # panic() stops the other CPUs after its first line; its last one says that all is done.
        machine.wait_console(r"end Kernel panic - not syncing", deadline)
    return Result()


@perform.register
def _(step: Plug, session: Session, deadline: Deadline) -> Result:
    session.mark("begin", step.id, deadline)
    session.plugged[step.target] = session.machine.plug_cpu(deadline)
    # There is no udev in the guest that would bring the new CPU online.
    online = quoted("guestctl", "write", f"{_CPU_DIR}/cpu{step.target}/online", "1")
    reply = guestctl_reply(session.run(online, deadline))
    _end_from_outside(step, session, deadline)
    return Result() if reply["errno"] == 0 else Result(kernel_errno(str(reply["errno_name"])), str(reply["target"]))


@perform.register
def _(step: Unplug, session: Session, deadline: Deadline) -> Result:
    device = session.plugged.pop(step.target, None)
    if device is None:
        return Result("ENOENT", f"CPU {step.target} was not plugged by this scenario")
    session.mark("begin", step.id, deadline)
    session.machine.unplug_cpu(device, deadline)
    _end_from_outside(step, session, deadline)
    return Result()


def _end_from_outside(step: Step, session: Session, deadline: Deadline) -> None:
    session.mark("end", step.id, deadline)
    session.online = parse_cpu_list(session.run("cat /sys/devices/system/cpu/online", deadline).stdout)


@perform.register
def _(step: Until, session: Session, deadline: Deadline) -> Result:
    # What waits for an actor or an event, the run does itself: it knows them.
    state = {"reset": State.RESET, "power-off": State.OFF}[step.what]
    session.machine.expect(state)
    session.machine.wait(state, deadline=deadline)
    return Result()
