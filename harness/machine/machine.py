"""A machine from its start until nothing of it is left."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, TypeVar

from harness.deadline import Deadline, patience
from harness.errors import DeadlineExceeded, HarnessError, HostFault, KernelFault
from harness.machine import argv, diagnosis, hotplug, registers, snapshot, virtio
from harness.machine.argv import BootFiles, Group, MachineSpec, Wiring
from harness.machine.bell import Bell
from harness.machine.console import Console, Line, Seen, Sign, patient_pair
from harness.machine.ending import Ending, EndingKind
from harness.machine.engine import Engine
from harness.machine.host import this_host
from harness.machine.live import Boot, Live
from harness.machine.qemu import QemuProcess
from harness.machine.qmp import Qmp, QmpEvent, QmpLost
from harness.machine.registers import CpuRegisters
from harness.machine.snapshot import Snapshot, SnapshotBroken
from harness.machine.state import ENDED, State
from harness.machine.toolchain import Qemu
from harness.platform.link import LinkLost, Platform

T = TypeVar("T")

# A boot under TCG with `quiet` prints nothing for 5 s on an idle machine; on one with a load of 11 it was 30 s.
SILENCE_S = 90.0

QMP_LOG = "qmp.jsonl"

_QUIT_S = 3.0
_DEATH_S = 2.0  # between QEMU closing its connections and its exit status
_FORWARD = re.compile(r"HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)")

# The call that leads into a state, for the message to somebody who is not there yet.
_LEADS_TO = {
    State.CREATED: "use a new Machine",
    State.BOOTING: "call start() or continue_boot() first",
    State.RUNNING: "call wait_ready() first",
    State.STOPPED: "call pause() first",
    State.SUSPENDED: "suspend the guest and call wait_suspended() first",
    State.RESET: "reboot the guest and call wait_reset() first",
}


class WrongState(HostFault):
    """A call that the machine cannot carry out in the state that it is in."""


class HotplugRefused(KernelFault):
    """The guest did not take, or did not give back, a vCPU."""


class NoCrashKernel(KernelFault):
    """The kernel panicked with a crash kernel loaded, and never got there.

    A CPU in VMX operation brings that about: relocate_kernel() clears CR4.VMXE, which is #GP then (seen on 7.3).
    """


class Debugger(Protocol):
    """Who stops and resumes the machine through QEMU's gdbstub, as he pleases."""

    def stand_still(self, deadline: Deadline) -> None:
        """Stops the machine, and leaves it so until `go_on`."""

    def go_on(self, deadline: Deadline) -> None:
        """Lets the machine go on, or takes over one that was resumed in another way."""


class Machine:
    """A QEMU with its console, QMP and forwarded SSH port, as a context manager.

        with Machine(spec, engine, qemu, files, run) as machine:
            machine.start(deadline)
            machine.wait_ready(deadline)

    `platform` is for engines with the emulated one (harness/machine/emulated.py); the machine starts and ends it.
    `run` is an existing folder; qemu.sh (the pasteable command), qemu.log, console.log, qmp.jsonl and trace.txt are
    written there. Every wait ends early, with the fitting exception, when the guest ends in a way that neither the
    waiting call nor `expect` named.
    """

    def __init__(
        self,
        spec: MachineSpec,
        engine: Engine,
        qemu: Qemu,
        files: BootFiles,
        run: Path,
        platform: Platform | None = None,
    ) -> None:
        self.spec = spec
        self.engine = engine
        self.run = run.absolute()
        self.platform = platform
        self._qemu = qemu
        self._files = files.absolute()
        self._live: Live | None = None
        self._debugger: Debugger | None = None
        self._cleanup = contextlib.ExitStack()
        if platform is not None:
            self._cleanup.callback(platform.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # How it is

    @property
    def state(self) -> State:
        return self._live.state if self._live else State.CREATED

    @property
    def emulator(self) -> str:
        """What emulates the CPUs that KVM runs the guest on; "" for real ones, and where the engine is no KVM."""
        return self._started.emulator

    @property
    def boot(self) -> Boot:
        """The present boot: its number, and where it begins in the console's lines and QMP's events."""
        return self._started.boot

    @property
    def console(self) -> Console:
        return self._started.console

    @property
    def qmp(self) -> Qmp:
        return self._started.qmp

    @property
    def pid(self) -> int:
        """QEMU's process; 0 before it is started."""
        return self._live.process.pid if self._live else 0

    @property
    def ssh_port(self) -> int:
        """The port on 127.0.0.1 that leads to the guest's port 22."""
        return self._started.ssh_port

    def expect(self, *states: State) -> None:
        """From now until the next boot, the guest may end like this without it being a fault."""
        self._live = self._started.expecting(*states)

    def check(self, *allowed: State) -> State:
        """The state, unless the guest ended as neither `expect` nor `allowed` says.

        Raises GuestEnded (panic, reset, power-off) or GuestOutOfReach (QEMU died).
        """
        live = self._started
        state = live.state
        if state in ENDED and state not in live.boot.expected.union(allowed):
            self._check_platform()
            raise diagnosis.ending(live, state).fault()
        return state

    def diagnose(self, deadline: Deadline) -> Ending:
        """How the guest is, for somebody who does not hear from it any more."""
        return diagnosis.diagnose(self._started, deadline)

    # From start to end

    def start(self, deadline: Deadline) -> None:
        """Starts QEMU; the guest begins to boot. Raises GuestOutOfReach with QEMU's words when it dies at once."""
        self._require("start", State.CREATED)
        try:
            self._start(deadline)
        except BaseException:
            self.close()
            raise

    def restore(self, folder: Path, deadline: Deadline) -> None:
        """Starts QEMU with the state that `save` left in `folder`; the guest goes on where it was, as does its boot.

        In place of `start`. What the console said before is there again, and in the machine's folder. The SSH port
        is another one, and connections are gone. Raises UsageError for a snapshot of another machine, SnapshotBroken
        for one that QEMU cannot go on from, else what `start` raises.
        """
        self._require("restore", State.CREATED)
        saved = Snapshot.read(folder, self._identity)
        said = snapshot.continue_records(folder, self.run)
        try:
            if self.platform is not None and saved.platform is not None:
                self.platform.restore(saved.platform)
            boot = Boot(saved.boot, time.monotonic(), saved.console, restored=True)
            self._start(deadline, *snapshot.ARGUMENTS, boot=boot, said=said)
            self._load(folder, deadline)
            self.qmp.execute("cont", deadline)
        except BaseException:
            self.close()
            raise

    def wait_ready(self, deadline: Deadline) -> float:
        """Waits until the guest image's init says that the guest is ready; returns the guest's uptime in seconds.

        Raises HostFault for an init that failed, GuestEnded for a kernel that panicked, reset, switched off or went
        silent, GuestOutOfReach when QEMU died, DeadlineExceeded for a guest that is slow but prints.
        """
        self._require("wait_ready", State.BOOTING, State.RUNNING)

        def look() -> Seen | None:
            self.check()
            signs = self._started.signs()
            if Sign.FAILED in signs:
                raise self._init_failed(signs[Sign.FAILED])
            quiet = self._started.quiet_for()
            if quiet > SILENCE_S * patience() and Sign.READY not in signs:
                raise diagnosis.silent(self._started, f"it booted, and printed nothing for {quiet:.0f} s").fault()
            return signs.get(Sign.READY)

        return float(self._wait_for(look, deadline).detail)

    def wait(self, *wanted: State, deadline: Deadline) -> State:
        """Waits until the machine is in one of the states `wanted`, which are then no fault.

        Raises what `check` raises; GuestEnded when the time is up and the guest is silent; else DeadlineExceeded.
        """

        def look() -> State | None:
            state = self.check(*wanted)
            return state if state in wanted else None

        return self._wait_for(look, deadline)

    def wait_reset(self, deadline: Deadline) -> None:
        """Waits for the guest's reset. QEMU is then paused at it, with the registers as the reset found them."""
        self.wait(State.RESET, deadline=deadline)

    def wait_power_off(self, deadline: Deadline) -> None:
        """Waits for the guest's power-off. QEMU is then paused at it."""
        self.wait(State.OFF, deadline=deadline)

    def wait_suspended(self, deadline: Deadline) -> None:
        """Waits until the guest sleeps in S3."""
        self.wait(State.SUSPENDED, deadline=deadline)

    def wait_panicked(self, deadline: Deadline) -> str:
        """Waits for a panic, also for one that a crash kernel has taken over already; returns its message."""
        self.wait(State.PANICKED, State.CRASH_KERNEL, deadline=deadline)
        return self._started.signs()[Sign.PANIC].detail

    def wait_crash_kernel(self, deadline: Deadline) -> None:
        """Waits until the crash kernel's init reports. Its only door is the console.

        Raises NoCrashKernel when nothing was printed for SILENCE_S after the panic.
        """
        self.expect(State.PANICKED)
        try:
            self.wait(State.CRASH_KERNEL, deadline=deadline)
        except DeadlineExceeded as late:
            quiet = self._started.quiet_for()
            if self.state is not State.PANICKED or quiet < SILENCE_S * patience():
                raise
            raise NoCrashKernel(
                "the crash kernel did not start",
                expected="its first lines, soon after the panic",
                found=f"nothing for {quiet:.0f} s",
                evidence=diagnosis.excerpt(self._started),
            ) from late

    def wait_console(self, pattern: str | re.Pattern[str], deadline: Deadline, since: int | None = None) -> Line:
        """The first console line, of this boot or from position `since` on, in which `pattern` is found."""
        begin = self.boot.console if since is None else since

        def look() -> Line | None:
            line = self.console.find(pattern, begin)
            if line is None:
                self.check()
            return line

        return self._wait_for(look, deadline)

    def wake_up(self, deadline: Deadline) -> None:
        """Wakes the guest from S3, and returns when the machine is awake; the kernel still has to resume."""
        self._require("wake_up", State.SUSPENDED)
        since = self.qmp.position
        self.qmp.execute("system_wakeup", deadline)
        self.qmp.wait_event(("WAKEUP",), deadline, since)

    def announce_boot(self, deadline: Deadline) -> None:
        """The kernel that starts next is that of the next boot. For a kexec, to be called before it."""
        if self.platform is not None:
            self.platform.begin_boot(self.boot.number + 1, deadline)

    def withdraw_boot(self, deadline: Deadline) -> None:
        """The boot that was announced does not come: the kexec was refused."""
        if self.platform is not None:
            self.platform.begin_boot(0, deadline)

    def begin_boot(self) -> None:
        """What comes from now on belongs to the next boot. For a boot without a reset: call it just before kexec."""
        self._live = self._started.next_boot()

    def continue_boot(self, deadline: Deadline) -> None:
        """Boots the same machine again after its reset, power-off or panic; the boot's number counts up."""
        self._require("continue_boot", State.RESET, State.OFF, State.PANICKED, State.CRASH_KERNEL)
        # A panicked kernel still prints; what it prints belongs to its own boot.
        if self._debugger is not None:
            self._debugger.stand_still(deadline)
        self.qmp.execute("stop", deadline)
        self.console.settle(deadline)
        # With reboot=shutdown QEMU would take its own system_reset for a shutdown.
        self.qmp.execute("set-action", deadline, {"reboot": "reset"})
        self.announce_boot(deadline)
        self.begin_boot()
        self.qmp.execute("system_reset", deadline)
        self.qmp.execute("cont", deadline)
        if self._debugger is not None:
            self._debugger.go_on(deadline)
        self._pass_firmware(deadline)
        self.qmp.execute("set-action", deadline, {"reboot": "shutdown"})

    def close(self) -> None:
        """Ends QEMU, politely and then not, and reaps it. Safe in every state, more than once."""
        if self._live is not None and self._live.process.returncode is None:
            with contextlib.suppress(HarnessError):
                self._live.qmp.execute("quit", Deadline.after(_QUIT_S, "QEMU's quit"))
                self._live.process.wait(_QUIT_S)
        self._cleanup.close()

    def watch(self, look: Callable[[], T | None], deadline: Deadline) -> T:
        """Waits for `look`'s answer, which is asked for whenever something happens, and a few times a second.

        Raises what `look` raises (it may call `check`), and DeadlineExceeded without asking how the guest is.
        """
        return self._started.bell.wait_for(look, deadline)

    def ring(self) -> None:
        """Lets those who `watch` look again."""
        self._started.bell.ring()

    # From outside the guest

    def has_network(self, deadline: Deadline) -> bool:
        """Whether the guest's driver has its network device. Since 6.15 device_shutdown() takes it away."""
        return virtio.network_in_use(self.qmp, deadline)

    def dump_blocked_tasks(self, deadline: Deadline) -> None:
        """Makes the kernel print its uninterruptible tasks: sysrq-w by a serial break, which needs no user space."""
        self.qmp.execute("chardev-send-break", deadline, {"id": "console"})
        self.console.send("w")

    def registers(self, deadline: Deadline) -> tuple[CpuRegisters, ...]:
        """The control registers of every vCPU, also while the machine is paused at its reset or asleep."""
        return registers.parse(self.qmp.human("info registers -a", deadline))

    def virtualization(self, deadline: Deadline) -> Mapping[int, bool]:
        """Per vCPU, whether the engine's extension is on (EFER.SVME or CR4.VMXE)."""
        return {cpu.cpu: self.engine.extension.on(cpu) for cpu in self.registers(deadline)}

    def pause(self, deadline: Deadline) -> None:
        """Stops all vCPUs where they are."""
        self.expect(State.STOPPED)
        if self._debugger is not None:
            self._debugger.stand_still(deadline)
        else:
            self.qmp.execute("stop", deadline)
        self._live = dataclasses.replace(self._started, paused=True)

    def resume(self, deadline: Deadline) -> None:
        """Lets the vCPUs go on after `pause`."""
        self._require("resume", State.STOPPED)
        self._live = dataclasses.replace(self._started, paused=False)
        if self._debugger is not None:
            self._debugger.go_on(deadline)
        else:
            self.qmp.execute("cont", deadline)

    def open_gdb(self, debugger: Debugger, deadline: Deadline) -> socket.socket:
        """A connection to QEMU's gdbstub for `debugger`; the machine stands still when it is made. To be called once.

        From then on STOP and RESUME are mostly the debugger's doing, and no pause: `state` knows of `pause` only.
        """
        self._require("open_gdb", State.RUNNING)
        self.qmp.ignore("STOP", "RESUME")
        # Not in the run's folder: the path of a socket has 108 bytes at most.
        with tempfile.TemporaryDirectory(prefix="gdb-") as folder:
            path = Path(folder) / "gdb"
            self.qmp.human(f"gdbserver unix:{path},server=on,wait=off", deadline)
            sock = socket.socket(socket.AF_UNIX)
            self._cleanup.callback(sock.close)
            try:
                sock.connect(str(path))
            except OSError as error:
                raise HostFault("QEMU's gdbstub does not listen", found=str(error)) from error
        self._debugger = debugger
        return sock

    def serve_monitor(self, kind: Literal["hmp", "qmp"], path: Path, deadline: Deadline) -> None:
        """Has QEMU listen on the socket `path` for a person's monitor, one client at a time. Once per kind."""
        address = {"type": "unix", "data": {"path": str(path)}}
        backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
        self.qmp.execute("chardev-add", deadline, {"id": f"chr-{kind}-by-hand", "backend": backend})
        monitor = {"qom-type": f"monitor-{kind}", "id": f"{kind}-by-hand", "chardev": f"chr-{kind}-by-hand"}
        self.qmp.execute("object-add", deadline, monitor)

    def serve_gdb(self, path: Path, deadline: Deadline) -> None:
        """Has QEMU's gdbstub listen on the socket `path`. Raises WrongState while the harness itself uses it."""
        if self._debugger is not None:
            raise WrongState("the harness holds tasks by the gdbstub, and there is only one", hint="--holds plugin")
        self.qmp.human(f"gdbserver unix:{path},server=on,wait=off", deadline)

    def forget_debugger(self) -> None:
        """The debugger leaves; the machine runs."""
        self._debugger = None

    def dump(self, path: Path, deadline: Deadline) -> None:
        """Writes the guest's memory to `path` as an ELF core, for crash or drgn; the guest stands still meanwhile."""
        self.expect(State.STOPPED)
        self.qmp.execute("dump-guest-memory", deadline, {"paging": False, "protocol": f"file:{path.absolute()}"})

    def save(self, folder: Path, deadline: Deadline) -> None:
        """Saves a running machine in `folder`, an existing one, for `restore`; the guest goes on afterwards."""
        self._require("save", State.RUNNING)
        self.pause(deadline)
        try:
            platform = self.platform.state(deadline) if self.platform else None
            since = self.qmp.position
            snapshot.begin_save(self.qmp, folder, deadline)
            self._wait_migration(since, deadline)
            boot = self.boot
            Snapshot(self._identity, boot.number, boot.console, platform).write(folder, self.run)
        finally:
            self.resume(deadline)

    def plug_cpu(self, deadline: Deadline) -> str:
        """Plugs a vCPU into the first free place, and waits until the guest has taken it; returns its device's name.

        The guest then has the CPU present and offline. Raises WrongState when all max_cpus are there, HotplugRefused
        when the guest says no, DeadlineExceeded when it says nothing.
        """
        self._require("plug_cpu", State.RUNNING)
        free = hotplug.free_place(self.qmp.execute("query-hotpluggable-cpus", deadline))
        if free is None:
            raise WrongState(
                "plug_cpu() needs a free place for a vCPU",
                expected=f"an empty place in -smp {self.spec.topology}",
                hint="raise max_cpus of the machine",
            )
        name, place = free
        since = self.qmp.position
        self.qmp.execute("device_add", deadline, {"driver": place["type"], "id": name, **place["props"]})
        self._wait_hotplug(name, hotplug.Source.INSERTION, hotplug.taken, since, deadline)
        return name

    def unplug_cpu(self, name: str, deadline: Deadline) -> None:
        """Asks the guest to give back the vCPU `name` of `plug_cpu`, and waits until it is gone.

        Raises HotplugRefused when the guest says no, DeadlineExceeded when it says nothing.
        """
        self._require("unplug_cpu", State.RUNNING)
        since = self.qmp.position
        self.qmp.execute("device_del", deadline, {"id": name})
        self._wait_hotplug(name, hotplug.Source.EJECTION, hotplug.given_back, since, deadline)

    def _load(self, folder: Path, deadline: Deadline) -> None:
        since = self.qmp.position
        try:
            snapshot.begin_load(self.qmp, folder, deadline)
            self._wait_migration(since, deadline)
        except DeadlineExceeded:
            raise
        except HostFault as error:  # a QEMU that cannot read a device's state ends
            words = self._started.process.words()
            raise SnapshotBroken(f"QEMU cannot read {folder}", found=error.what, evidence=words) from error

    def _wait_migration(self, since: int, deadline: Deadline) -> None:
        def look() -> bool | None:
            self.check(State.STOPPED)
            return snapshot.is_done(self.qmp.events(since=since)) or None

        self._wait_for(look, deadline)

    @property
    def _identity(self) -> tuple[str, ...]:
        """What a machine must have in common with one that is to go on from its snapshot."""
        return (f"engine {self.engine.label}", f"QEMU {self._qemu.version}", repr(self.spec))

    def _wait_hotplug(
        self,
        name: str,
        source: hotplug.Source,
        done: Callable[[Sequence[QmpEvent], str], bool],
        since: int,
        deadline: Deadline,
    ) -> None:
        def look() -> bool | None:
            self.check()
            events = self.qmp.events(since=since)
            refusal = hotplug.refusal(events, name, source)
            if refusal:
                raise HotplugRefused(f"the guest refused the {source.name.lower()} of vCPU {name}", found=refusal)
            return done(events, name) or None

        self._wait_for(look, deadline)

    # Tools

    @property
    def _started(self) -> Live:
        if self._live is None:
            raise WrongState("the machine is not started", hint="call start() first")
        return self._live

    def _require(self, call: str, *states: State) -> None:
        """Raises WrongState unless the machine is in one of `states`; an unexpected ending is that ending's fault."""
        state = self.check(*states) if self._live else State.CREATED
        if state not in states:
            raise WrongState(
                f"{call}() needs a machine that is {' or '.join(wanted.value for wanted in states)}",
                found=f"it is {state.value}",
                hint=next((_LEADS_TO[wanted] for wanted in states if wanted in _LEADS_TO), ""),
            )

    def _wait_for(self, look: Callable[[], T | None], deadline: Deadline) -> T:
        """Waits for `look`'s answer; when time is up, tells a silent guest from one that merely takes longer."""
        live = self._started
        try:
            return live.bell.wait_for(look, deadline)
        except DeadlineExceeded as error:
            found = diagnosis.diagnose(live, deadline)
            slow = live.state is State.BOOTING and live.quiet_for() < SILENCE_S * patience()
            if found.kind is EndingKind.SILENT and not slow:
                raise found.fault() from error
            raise deadline.exceeded(f"{found.text}; the machine is {live.state.value}\n{found.evidence}") from error

    def _start(self, deadline: Deadline, *more: str, boot: Boot | None = None, said: str = "") -> None:
        """Starts QEMU, with the arguments `more` after the machine's, and with what its console `said` before."""
        self._write_script()
        console_end, console_qemu = patient_pair()
        qmp_end, qmp_qemu = socket.socketpair()
        bell = Bell()
        with console_qemu, qmp_qemu:  # once QEMU has them: ours would keep the connections open after its end
            fds = (console_qemu.fileno(), qmp_qemu.fileno())
            platform = self.platform.argv_words if self.platform else ()
            command = [*argv.argv(self._qemu, self._groups(argv.inherited(*fds, platform))), *more]
            inherited = (*fds, *(self.platform.pass_fds if self.platform else ()))
            process = QemuProcess(command, self.run / "qemu.log", inherited, bell)
            self._cleanup.callback(process.kill)
        console = Console(console_end, bell, said)
        self._cleanup.callback(console.close)
        qmp = Qmp(self.run / QMP_LOG, bell)
        self._cleanup.callback(qmp.close)
        emulator = this_host(()).emulator if self.engine.on_host else ""
        self._live = Live(process, console, qmp, bell, boot or Boot(1, time.monotonic()), emulator=emulator)
        self._live = dataclasses.replace(self._live, ssh_port=self._connect(qmp_end, deadline))

    def _connect(self, qmp_end: socket.socket, deadline: Deadline) -> int:
        """Connects the platform and QMP, and asks which port the host's kernel chose for SSH."""
        try:
            if self.platform is not None:  # first: QEMU waits for it before it makes the machine
                self.platform.start(deadline)
            self.qmp.connect(qmp_end, deadline)
            forwards = self.qmp.human("info usernet", deadline)
        except (QmpLost, LinkLost):
            if not self._started.process.wait(_DEATH_S):
                raise
            raise diagnosis.ending(self._started, State.GONE).fault() from None
        match = _FORWARD.search(forwards)
        if match is None:
            raise HostFault("QEMU does not say which port it forwards to SSH", found=forwards)
        return int(match[1])

    def _check_platform(self) -> None:
        """Raises what made the platform end QEMU. That the connection broke says nothing: QEMU's end does that."""
        with contextlib.suppress(LinkLost):
            if self.platform is not None:
                self.platform.check()

    def _write_script(self) -> None:
        path = self.run / "qemu.sh"
        path.write_text(argv.script(self._qemu, self._groups(argv.BY_HAND)))
        path.chmod(0o755)

    def _groups(self, wiring: Wiring) -> tuple[Group, ...]:
        return argv.groups(self.spec, self.engine, self._files, self.run, wiring)

    def _pass_firmware(self, deadline: Deadline) -> None:
        """Lets SeaBIOS reset once more: after a warm reset it restores its own image and starts over (its
        src/resume.c, tryReboot). Measured 60 ms after `cont`; a kernel's first line comes long after that."""
        boot = self.boot

        def look() -> bool | None:
            self.check()
            by_guest = any(event.data["guest"] for event in self.qmp.events(("RESET",), boot.events))
            return by_guest or self.console.position > boot.console or None

        self._wait_for(look, deadline)

    def _init_failed(self, failed: Seen) -> HostFault:
        return HostFault(
            f"the guest's init failed: {failed.detail}",
            hint="the kernel lacks an option that the guest image needs, or the image a module",
            evidence=diagnosis.excerpt(self._started),
        )
