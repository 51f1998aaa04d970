"""Commands in the guest, over SSH: one that is waited for, and ones that go on by themselves.

One connection per boot, many channels: opening a connection costs a key exchange under emulation, a channel does not.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import paramiko

from harness.deadline import Deadline
from harness.errors import HarnessError, HostFault
from harness.images.keys import RunKeys
from harness.machine.ending import Ending, EndingKind
from harness.machine.machine import Machine
from harness.machine.state import ENDED

# Its library logs a traceback for every connection that a reboot breaks; here that is an exception or expected.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_USER = "root"
_RETRY_S = 0.1
_LOOK_S = 0.1  # between looks at the machine while a command is silent
_CHUNK = 65536
# Dropbear 2022.83 closes a channel that is opened while another one ends, before it has taken a command (measured:
# 1 of 4 times on a starved host).
_OPENINGS = 3


@dataclass(frozen=True)
class CommandResult:
    """A command that came to its end in the guest."""

    command: str
    status: int  # exit status; 128 + n when signal n ended it, as a shell has it
    stdout: str
    stderr: str
    duration: float  # seconds, on the host's clock

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


class ConnectionLost(HostFault):
    """The connection broke under a command whose outcome will never be known: by a reset that was expected, or a
    broken SSH session in a guest that otherwise answers. `ending` says how the guest is."""

    def __init__(self, command: str, ending: Ending) -> None:
        super().__init__(f"lost the guest during: {command}", found=ending.text, evidence=ending.evidence)
        self.command = command
        self.ending = ending


class Shell:
    """The way into the guest of `machine`. `connect` first, and again for every boot."""

    def __init__(self, machine: Machine, keys: RunKeys) -> None:
        self._machine = machine
        self._keys = keys
        self._transport: paramiko.Transport | None = None
        self._boot = 0

    def connect(self, deadline: Deadline) -> None:
        """Connects to the present boot of the guest, trying until it answers.

        Raises HostFault for a guest with another host key or one that refuses the run's key, whatever the machine
        raises when the guest ended, and the machine's diagnosis (silent, SSH lost) when time is up.
        """
        self.close()
        while True:
            self._machine.check()
            try:
                self._transport = self._open(deadline)
                self._boot = self._machine.boot.number
                return
            except (paramiko.AuthenticationException, paramiko.BadHostKeyException) as error:
                raise HostFault("the guest's SSH server is not this run's", found=str(error)) from error
            except (paramiko.SSHException, EOFError, OSError) as error:
                if deadline.expired:
                    raise self._unreachable(deadline) from error
                time.sleep(min(_RETRY_S, deadline.remaining()))

    def run(self, command: str, deadline: Deadline) -> CommandResult:
        """Runs `command` in the guest's shell to its end.

        Raises ConnectionLost, DeadlineExceeded (with what the command has printed), GuestEnded, GuestOutOfReach.
        """
        background = self.start(command, deadline)
        try:
            return background.wait(deadline)
        finally:
            background.close()

    def start(self, command: str, deadline: Deadline) -> Background:
        """Starts `command`, which goes on while other things are done; raises like `run`."""
        for attempt in range(1, _OPENINGS + 1):
            if not self.alive:
                break
            try:
                return Background(self, self._machine, command, self._execute(command, deadline))
            except (paramiko.SSHException, EOFError, OSError) as error:
                if attempt == _OPENINGS or deadline.expired:
                    raise self.lost(command, deadline) from error
        raise self.lost(command, deadline)

    def _execute(self, command: str, deadline: Deadline) -> paramiko.Channel:
        """A channel on which the server has taken `command`. Raises paramiko's exceptions before it has."""
        assert self._transport is not None  # alive
        channel = self._transport.open_session(timeout=deadline.remaining())
        with _closed_at(deadline, channel):
            # With something after it, the shell stays to report a command that died of a signal as 128 + n.
            channel.exec_command(f"{command}\nexit $?")
        return channel

    @property
    def alive(self) -> bool:
        """Whether there is a connection, and the boot that it was made to still goes on (asleep or not)."""
        return (
            self._transport is not None
            and self._transport.is_active()
            and self._machine.boot.number == self._boot
            and self._machine.state not in ENDED
        )

    @property
    def by_hand(self) -> tuple[str, ...]:
        """The words of the command with which a person logs in."""
        return self._keys.ssh_command(self._machine.ssh_port)

    def lost(self, command: str, deadline: Deadline) -> HarnessError:
        """The exception for a connection that is no more: the guest's ending, or ConnectionLost."""
        self._machine.check()
        ending = self._machine.diagnose(deadline)
        self._machine.check()  # what came to light during the diagnosis
        expected = self._machine.state in ENDED
        return ConnectionLost(command, ending) if expected or ending.kind is EndingKind.RUNNING else ending.fault()

    def close(self) -> None:
        """Ends the connection; background commands in the guest go on without it."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _open(self, deadline: Deadline) -> paramiko.Transport:
        sock = socket.create_connection(("127.0.0.1", self._machine.ssh_port), timeout=deadline.remaining())
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(sock.close)
            transport = paramiko.Transport(sock)
            on_failure.callback(transport.close)
            transport.banner_timeout = deadline.remaining()
            transport.start_client(timeout=deadline.remaining())
            found = transport.get_remote_server_key()
            if found != self._keys.host_key:
                raise paramiko.BadHostKeyException("the guest", found, self._keys.host_key)
            transport.auth_publickey(_USER, self._keys.client_key())
            on_failure.pop_all()
        return transport

    def _unreachable(self, deadline: Deadline) -> HarnessError:
        ending = self._machine.diagnose(deadline)
        return deadline.exceeded(ending.text) if ending.kind is EndingKind.RUNNING else ending.fault()


@contextlib.contextmanager
def _closed_at(deadline: Deadline, channel: paramiko.Channel) -> Iterator[None]:
    """Closes the channel when time is up: exec_command() has no timeout, and a guest that reset never answers."""
    timer = threading.Timer(deadline.remaining(), channel.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Background:
    """A command that runs in the guest. Made by `Shell.start`."""

    def __init__(self, shell: Shell, machine: Machine, command: str, channel: paramiko.Channel) -> None:
        self.command = command
        self._shell = shell
        self._machine = machine
        self._channel = channel
        self._began = time.monotonic()
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._result: CommandResult | None = None

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        self._receive()
        return self._stdout.decode(errors="replace")

    @property
    def stderr(self) -> str:
        self._receive()
        return self._stderr.decode(errors="replace")

    def poll(self, deadline: Deadline) -> CommandResult | None:
        """Its result if it has ended. Raises like `Shell.run`; `deadline` bounds the diagnosis of a lost one."""
        if self._result is None:
            # Asked before the result is looked for: a channel that closes in between has one, on the next look.
            broken = self._channel.closed or not self._shell.alive
            if self.finished() is None and broken:
                raise self._shell.lost(self.command, deadline)
        return self._result

    def settle(self, deadline: Deadline) -> bool:
        """Whether it has ended, or does within the deadline."""
        while self.finished() is None and not deadline.expired and not self._channel.closed:
            select.select([self._channel], [], [], min(_LOOK_S, deadline.remaining()))
        return self._result is not None

    def finished(self) -> CommandResult | None:
        """Its result if it has ended; None also for a connection that was lost."""
        if self._result is None:
            self._receive()
            self._result = self._ended()
        return self._result

    def wait(self, deadline: Deadline) -> CommandResult:
        """Waits for its end. Raises like `Shell.run`; after DeadlineExceeded it still runs, and may be waited for."""
        while True:
            result = self.poll(deadline)
            if result is not None:
                return result
            if deadline.expired:
                raise self._timed_out(deadline)
            select.select([self._channel], [], [], min(_LOOK_S, deadline.remaining()))

    def send(self, text: str, deadline: Deadline) -> None:
        """Gives the command `text` on its stdin. Raises like `Shell.run`."""
        try:
            self._channel.sendall(text.encode())
        except OSError as error:
            raise self._shell.lost(self.command, deadline) from error

    def wait_line(self, prefix: str, deadline: Deadline) -> str:
        """The rest of the first line of its stdout that begins with `prefix`. Raises like `Shell.run`."""
        while True:
            whole = self.stdout.split("\n")[:-1]
            if found := [line.removeprefix(prefix) for line in whole if line.startswith(prefix)]:
                return found[0]
            if self.poll(deadline) is not None:
                raise HostFault(
                    f"ended without a word: {self.command}", expected=prefix, found=self.stdout + self.stderr
                )
            if deadline.expired:
                raise self._timed_out(deadline)
            select.select([self._channel], [], [], min(_LOOK_S, deadline.remaining()))

    def close(self) -> None:
        """Stops listening; the command gets SIGHUP if it still runs."""
        self._channel.close()

    def _receive(self) -> None:
        while self._channel.recv_ready():
            self._stdout += self._channel.recv(_CHUNK)
        while self._channel.recv_stderr_ready():
            self._stderr += self._channel.recv_stderr(_CHUNK)

    def _ended(self) -> CommandResult | None:
        """The result, once the server has sent the exit status and closed the channel, which it does last.

        A channel that broke has no exit status; paramiko then says -1.
        """
        if not self._channel.closed or self._channel.recv_exit_status() == -1:
            return None
        self._receive()
        return CommandResult(
            command=self.command,
            status=self._channel.recv_exit_status(),
            stdout=self._stdout.decode(errors="replace"),
            stderr=self._stderr.decode(errors="replace"),
            duration=time.monotonic() - self._began,
        )

    def _timed_out(self, deadline: Deadline) -> HarnessError:
        ending = self._machine.diagnose(deadline)
        if ending.kind in (EndingKind.RUNNING, EndingKind.SSH_LOST):
            printed = self.stdout + self.stderr
            return deadline.exceeded(f"still running in the guest: {self.command}\n{printed}")
        return ending.fault()
