"""virtme-ng at the same task, as a user of it would type it: `vng -r BZIMAGE --disable-kvm -- uname -r`.

It boots into the host's own root file system, so what it needs of the host's programs it finds there. What a host
may lack is put before them in PATH: QEMU (the harness's own), virtiofsd and busybox (unpacked from Debian).
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from harness import paths, process, progress
from harness.bench.setup import Setup
from harness.cache import locked
from harness.deadline import Deadline
from harness.debian import Archive
from harness.errors import HostFault

VERSION = "1.42"
VIRTME = "virtme-ng: boot, uname -r, power off"

_SUITE = "trixie"  # the first Debian with virtiofsd; the C one of older QEMUs is not used by virtme-ng
_PACKAGES = ("virtiofsd", "busybox-static")
_LIBRARIES = Path("usr/lib/x86_64-linux-gnu")
_BUSYBOX = Path("usr/bin/busybox")
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # modprobe and depmod, which a normal user's PATH may lack

# On a host without udev the guest has no names for its virtio ports. The command's output then goes to the guest's
# console, which virtme-ng sends to /dev/null, and its own exit status is 255. The console is kept instead: what the
# command printed is the proof that it ran.
_QEMU = """\
#!/bin/sh
for word do
	shift
	[ "$word" = file,id=console,path=/dev/null ] && word=file,id=console,path={console}
	set -- "$@" "$word"
done
exec {qemu} "$@"
"""
_VIRTIOFSD = """\
#!/bin/sh
exec {libraries}/ld-linux-x86-64.so.2 --library-path {libraries} {root}/usr/libexec/virtiofsd "$@"
"""


class Virtme:
    """virtme-ng with its own choice of vCPUs (the host's) and memory (1 GB)."""

    name = VIRTME

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._home = setup.scratch / "virtme"
        self._console = self._home / "console"

    def prepare(self, deadline: Deadline) -> None:
        """Installs it, and runs it once: the first run makes its caches."""
        venv = _installed(deadline)
        tools = _tools(deadline)
        bin_ = self._home / "bin"
        bin_.mkdir(parents=True, exist_ok=True)
        qemu = shlex.join(self._setup.qemu.argv_prefix)
        _script(bin_ / "qemu-system-x86_64", _QEMU.format(console=shlex.quote(str(self._console)), qemu=qemu))
        _script(bin_ / "virtiofsd", _VIRTIOFSD.format(libraries=tools / _LIBRARIES, root=tools))
        self._environment = {
            "PATH": f"{bin_}:{venv / 'bin'}:{os.environ['PATH']}:{_SBIN}",
            "HOME": str(self._home),  # its configuration and caches; the user's might change what is measured
        }
        self._argv = [
            *("vng", "-r", str(self._setup.kernel.image), "--disable-kvm"),
            *("--qemu", str(bin_ / "qemu-system-x86_64"), "--busybox", str(tools / _BUSYBOX)),
            *("--", "uname", "-r"),
        ]
        self.run(deadline)

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        """Raises HostFault with what it printed when the guest did not answer with its release."""
        self._console.unlink(missing_ok=True)
        begin = time.monotonic()
        try:
            output = process.run(self._argv, deadline, env=self._environment)
        except process.ProcessFailed as error:
            output = error.output
        end = time.monotonic()
        console = self._console.read_text(errors="replace") if self._console.exists() else ""
        release = self._setup.kernel.release
        if release not in [line.strip() for line in (output + console).splitlines()]:
            raise HostFault(
                "virtme-ng does not run here",
                expected=f"{release} as the output of: {shlex.join(self._argv)}",
                hint="it needs modprobe (kmod) and strings (binutils) of the host, and a guest that reads all of /",
                evidence=process.tail(output + console),
            )
        return {VIRTME: end - begin}


def _installed(deadline: Deadline) -> Path:
    """Its virtual environment, in the cache. Raises HostFault when it cannot be had from PyPI."""
    venv = paths.cache_dir() / "virtme-ng" / VERSION
    complete = venv / "complete"
    with locked(venv.with_suffix(".lock"), deadline):
        if not complete.exists():
            # In its place from the start: the programs of a virtual environment name its path.
            shutil.rmtree(venv, ignore_errors=True)
            with progress.task(f"install virtme-ng {VERSION}"):
                process.run([sys.executable, "-m", "venv", venv], deadline)
                pip = [str(venv / "bin" / "pip"), "--disable-pip-version-check", "install", "--quiet"]
                process.run([*pip, f"virtme-ng=={VERSION}"], deadline)
            complete.touch()
    return venv


def _tools(deadline: Deadline) -> Path:
    tree = paths.cache_dir() / "virtme-ng" / f"tools-{_SUITE}"
    with locked(tree.with_suffix(".lock"), deadline):
        if not tree.exists():
            Archive().unpack_with_dependencies(_PACKAGES, _SUITE, tree, deadline)
    return tree


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
