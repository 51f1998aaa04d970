"""The plugin's side of the link, for tests of the harness's side: a thread at the other end of the same socket."""

from __future__ import annotations

import os
import socket
import threading

from harness.deadline import Deadline
from harness.platform.link import Platform


def soon(seconds: float = 5.0) -> Deadline:
    return Deadline.after(seconds, "a test")


class Peer(threading.Thread):
    """The plugin's side: greets, says `ok` to every command, and has its memory read and written."""

    def __init__(self, platform: Platform, hello: str = "hello 1 7 4") -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(fileno=os.dup(platform.pass_fds[0]))
        self.lines = self.socket.makefile("r", newline="\n")
        self.hello = hello
        self.commands: list[str] = []
        self.answers: dict[str, list[str] | None] = {}  # first word -> what is said instead of ok; None: nothing
        self.memory: dict[int, bytes] = {}
        self.completions: list[str] = []
        self.completed = threading.Event()

    def run(self) -> None:
        self.say(self.hello)
        try:
            for line in self.lines:
                self.take(line.rstrip("\n"))
        except OSError:
            pass

    def take(self, line: str) -> None:
        verb, *words = line.split(" ")
        if verb in ("done", "vmfail", "fault"):
            self.completions.append(line)
            self.completed.set()
            return
        self.commands.append(line)
        if verb in ("read", "readv"):
            address, length = int(words[0], 16), int(words[1], 16)
            data = next(
                (
                    data[address - base : address - base + length]
                    for base, data in self.memory.items()
                    if base <= address and address + length <= base + len(data)
                ),
                None,
            )
            self.say("data -" if data is None else f"data {data.hex()}")
            return
        for answer in self.answers.get(verb, ["ok"]) or ():
            self.say(answer)

    def say(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\n")

    def ask(self, line: str) -> str:
        """A vCPU's request, and what completes it."""
        self.completed.clear()
        self.say(line)
        assert self.completed.wait(5)
        return self.completions[-1]


def started(platform: Platform) -> Peer:
    peer = Peer(platform)
    peer.start()
    platform.start(soon())
    return peer
