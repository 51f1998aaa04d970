"""Taking a sample: the registers from QEMU at any time, the rest from the guest while it can answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.deadline import Deadline
from harness.guest.session import Session, guestctl_reply, parse_cpu_list
from harness.machine.machine import Machine
from harness.machine.memory import Memory, NotInKernel
from harness.machine.registers import CpuRegisters
from harness.machine.state import State
from harness.observe.port_write import LENGTH, PortWrite
from harness.observe.sample import Sample

# A device node is what "misc_register last" is about; devtmpfs makes it.
_SCRIPT = '[ -e /dev/kvm ]; echo "kvm-device $((! $?))"; exec guestctl state'


def take_sample(name: str, session: Session, deadline: Deadline, stopped: bool = False) -> Sample:
    """A sample of the machine as it is now. `stopped`: a vCPU is, so that nobody gets at its MSRs in the guest."""
    guest: dict[str, Any] = {}
    answers = session.machine.state is State.RUNNING and not session.halted and not stopped
    # From a reboot that is in flight the kernel takes the network away.
    if answers and session.machine.has_network(deadline):
        guest = _guest_state(session, deadline)
        session.online = parse_cpu_list(str(guest["online"]))
    registers = session.machine.registers(deadline)
    return Sample(
        name=name,
        boot=session.machine.boot.number,
        virt={cpu.cpu: session.engine.extension.on(cpu) for cpu in registers},
        registers={
            cpu.cpu: {key: int(value) for key, value in asdict(cpu).items() if key != "cpu"} for cpu in registers
        },
        online=session.online,
        guest=guest,
        platform=session.machine.platform.summary(deadline) if session.machine.platform else {},
        console=_console(session),
        wrote=_port_writes(session.machine, registers, deadline) if session.machine.state is State.RESET else None,
    )


def _port_writes(machine: Machine, registers: Sequence[CpuRegisters], deadline: Deadline) -> Mapping[int, PortWrite]:
    """What a vCPU has written to a port with its last instruction, of a machine that stands at its reset."""
    try:
        memory = Memory(machine, deadline)
    except NotInKernel:
        return {}
    codes = {cpu: memory.read_virtual(cpu.rip - LENGTH, LENGTH) for cpu in registers if not cpu.halted}
    writes = {cpu.cpu: PortWrite.before(code, cpu.rax, cpu.rdx) for cpu, code in codes.items() if code is not None}
    return {cpu: write for cpu, write in writes.items() if write is not None}


def _console(session: Session) -> tuple[str, ...]:
    machine = session.machine
    since = max(session.sampled_until, machine.boot.console)
    session.sampled_until = machine.console.position
    return tuple(line.text for line in machine.console.lines(since))


def _guest_state(session: Session, deadline: Deadline) -> dict[str, Any]:
    done = session.run(_SCRIPT, deadline)
    state = guestctl_reply(done)
    state["devices"] = {"kvm": int("kvm-device 1" in done.stdout)}
    vendor = session.engine.extension.module
    # Scenarios say kvm_vendor and mean whichever of the two the engine has.
    for section in ("modules", "parameters"):
        if vendor in state.get(section, {}):
            state[section]["kvm_vendor"] = state[section][vendor]
    return state
