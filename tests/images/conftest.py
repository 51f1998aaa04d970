"""A guest of these tests' own: QEMU with the image under test, before any of harness.machine is trusted."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
import pexpect
import pytest

from harness.deadline import Deadline
from harness.images.direct import direct_image
from harness.images.initramfs import build_image
from harness.images.keys import RunKeys, make_keys, run_overlay
from harness.images.recipe import load_recipe
from harness.kernels.model import BuildOptions, Kernel
from harness.kernels.resolve import resolve
from harness.machine import toolchain

PROMPT = "guest# "
BOOT_SECONDS = 90  # ten times what it takes alone: other tests may use the machine too


@dataclass
class Guest:
    """A running guest, its console and how to log in."""

    console: pexpect.spawn[str]
    port: int
    keys: RunKeys

    def connect(self) -> paramiko.SSHClient:
        client = paramiko.SSHClient()
        client.get_host_keys().add(f"[127.0.0.1]:{self.port}", "ssh-ed25519", self.keys.host_key)
        client.connect(
            "127.0.0.1",
            self.port,
            "root",
            pkey=self.keys.client_key(),
            look_for_keys=False,
            allow_agent=False,
            timeout=BOOT_SECONDS,
        )
        return client


@dataclass
class Shell:
    """Commands over one SSH connection."""

    client: paramiko.SSHClient

    def run(self, command: str) -> tuple[int, str]:
        """Exit status and stdout."""
        _, stdout, _ = self.client.exec_command(command, timeout=BOOT_SECONDS)
        text = stdout.read().decode()
        return stdout.channel.recv_exit_status(), text

    def guestctl(self, arguments: str) -> dict[str, Any]:
        """The one JSON object that the command prints; its errno and exit status agree."""
        status, text = self.run(f"guestctl {arguments}")
        assert text.endswith("\n") and text.count("\n") == 1, text
        report: dict[str, Any] = json.loads(text)
        assert status == (1 if report["errno"] else 0)
        assert bool(report["errno"]) == bool(report["errno_name"])
        return report


@pytest.fixture(scope="session")
def stock_kernel() -> Kernel:
    return resolve("debian:6.12", BuildOptions(), Deadline.after(600, "fetching the kernel"))


def start(kernel: Kernel, folder: Path, cmdline: str = "") -> Guest:
    deadline = Deadline.after(600, "building the guest image")
    keys = make_keys(folder)
    image = build_image(kernel, load_recipe(), [], deadline).write(folder / "initrd", run_overlay(keys))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program, *prefix = toolchain.find(deadline).argv_prefix
    arguments = [
        *("-nodefaults", "-no-user-config", "-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "max"),
        *("-smp", "2", "-m", "512", "-display", "none"),
        *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
        *("-kernel", str(direct_image(kernel, deadline)), "-initrd", str(image)),
        *("-append", f"console=ttyS0 quiet nokaslr {cmdline}"),
        *(
            "-netdev",
            f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22",
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ),
        *("-device", "virtio-serial-pci", "-chardev", "null,id=trace"),
        *("-device", "virtserialport,chardev=trace,name=harness.trace"),
    ]
    console = pexpect.spawn(program, [*prefix, *arguments], timeout=BOOT_SECONDS, encoding="utf-8")
    return Guest(console, port, keys)


@pytest.fixture(scope="session")
def guest(stock_kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    guest = start(stock_kernel, tmp_path_factory.mktemp("guest"))
    guest.console.expect(r"harness: ready (\d+\.\d+)\r")
    guest.console.expect(PROMPT)
    yield guest
    guest.console.close(force=True)


@pytest.fixture(scope="session")
def shell(guest: Guest) -> Iterator[Shell]:
    with guest.connect() as client:
        yield Shell(client)
