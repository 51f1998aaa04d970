"""SSH keys of one run: made for it, kept in its folder, known to nobody else."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness.images import cpio

_TYPE = b"ssh-ed25519"
_PUBLIC_SIZE = 32  # bytes, at the end of dropbear's file
_CLIENT_FILE = "client_ed25519"
_HOST_FILE = "host_ed25519"
_KNOWN_HOSTS = "known_hosts"
_GUEST = "guest"  # the name by which a person's ssh knows the guest: its port is another one in every run

# Where guest-images/base/init has dropbear look.
_GUEST_HOST_KEY = "etc/dropbear/host_ed25519"
_GUEST_AUTHORIZED_KEYS = "root/.ssh/authorized_keys"


@dataclass(frozen=True)
class RunKeys:
    """The key that logs in to the guest's root, and the key by which the guest proves itself."""

    client: Path  # OpenSSH private key, mode 0600: `ssh -i` takes it
    host: Path  # dropbear's private key, mode 0600
    authorized_key: str  # the client's public key: "ssh-ed25519 AAAA…"
    host_key: paramiko.PKey  # the guest's public key, for known_hosts

    def ssh_command(self, port: int) -> tuple[str, ...]:
        """The words with which a person logs in by the forwarded `port`."""
        # In quotes: it takes a list of files, with spaces between them.
        known = f'UserKnownHostsFile="{self.client.absolute().with_name(_KNOWN_HOSTS)}"'
        options = ("IdentitiesOnly=yes", known, f"HostKeyAlias={_GUEST}", "LogLevel=ERROR")
        words = (word for option in options for word in ("-o", option))
        return ("ssh", "-i", str(self.client.absolute()), *words, "-p", str(port), "root@127.0.0.1")

    def client_key(self) -> paramiko.Ed25519Key:
        """The client's private key, for `SSHClient.connect(pkey=…)`."""
        return paramiko.Ed25519Key.from_private_key_file(str(self.client))


def make_keys(folder: Path) -> RunKeys:
    """Makes the two key pairs of a run in `folder`."""
    client, host = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    openssh = client.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    _write_private(folder / _CLIENT_FILE, openssh)
    _write_private(folder / _HOST_FILE, _dropbear_key(host))
    return _read_keys(folder)


def copy_keys(source: Path, folder: Path) -> RunKeys:
    """The keys that were made in `source`, for `folder` too: of a guest that goes on there. Raises OSError."""
    for name in (_CLIENT_FILE, _HOST_FILE):
        _write_private(folder / name, (source / name).read_bytes())
    return _read_keys(folder)


def remove_keys(folder: Path) -> None:
    """Takes the keys away again, where there are any."""
    for name in (_CLIENT_FILE, _HOST_FILE, _KNOWN_HOSTS):
        (folder / name).unlink(missing_ok=True)


def run_overlay(keys: RunKeys) -> bytes:
    """A cpio archive that gives a guest image the keys of a run.

    The kernel unpacks concatenated archives one after the other, so the cached image holds no secret.
    """
    return cpio.pack(
        (
            cpio.directory("root", 0o700),
            cpio.directory("root/.ssh", 0o700),
            cpio.file(_GUEST_AUTHORIZED_KEYS, keys.authorized_key.encode() + b"\n", 0o600),
            cpio.file(_GUEST_HOST_KEY, keys.host.read_bytes(), 0o600),
        )
    )


def _read_keys(folder: Path) -> RunKeys:
    client, host = folder / _CLIENT_FILE, folder / _HOST_FILE
    public = paramiko.Ed25519Key.from_private_key_file(str(client)).get_base64()
    host_key = paramiko.Ed25519Key(data=_string(_TYPE) + _string(host.read_bytes()[-_PUBLIC_SIZE:]))
    (folder / _KNOWN_HOSTS).write_text(f"{_GUEST} {host_key.get_name()} {host_key.get_base64()}\n")
    return RunKeys(client, host, authorized_key=f"{_TYPE.decode()} {public}", host_key=host_key)


def _write_private(path: Path, data: bytes) -> Path:
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(data)
    return path


def _dropbear_key(key: Ed25519PrivateKey) -> bytes:
    """Dropbear's file format (its src/ed25519.c, buf_put_ed25519_priv_key): type, then seed and public key as one."""
    return _string(_TYPE) + _string(key.private_bytes_raw() + key.public_key().public_bytes_raw())


def _string(data: bytes) -> bytes:
    """A string of the SSH protocol (RFC 4251, section 5)."""
    return struct.pack(">I", len(data)) + data
