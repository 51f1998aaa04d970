"""A kernel's symbols: from its System.map, else from itself, asked once and kept in the cache.

Debian's packages have no System.map. The kernel boots with nokaslr, so its addresses are the same in every boot.
Asking takes 9 to 11 s for Debian's kernels (a boot of 5 s, and 5 s for 95000 to 210000 symbols).
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from pathlib import Path

from harness import progress
from harness.cache import locked
from harness.deadline import Deadline
from harness.errors import HostFault
from harness.guest.boot import booted
from harness.kernels.model import Kernel
from harness.machine.engine import ENGINES
from harness.machine.toolchain import Qemu
from harness.paths import cache_dir
from harness.probes.addresses import SymbolTable

_ASK_S = 300.0

# Symbols of modules have the module in brackets behind their name.
_SCRIPT = "grep -v '\\[' /proc/kallsyms"


def symbol_table(kernel: Kernel, qemu: Qemu) -> SymbolTable:
    """The symbols of `kernel` without its modules. Raises HostFault for one that does not tell them."""
    return _parsed(_map(kernel, qemu))


def known_symbols(kernel: Kernel) -> SymbolTable | None:
    """The same of a kernel that has told them before, or need not be asked; None rather than booting it."""
    path = kernel.symbols or _kept(kernel)
    return _parsed(path) if path.exists() else None


@functools.lru_cache(maxsize=4)
def _parsed(path: Path) -> SymbolTable:
    """Kept for the next run: parsing takes 0.7 s."""
    return SymbolTable.parse(path.read_text())


def _map(kernel: Kernel, qemu: Qemu) -> Path:
    """A file that is never written again."""
    if kernel.symbols is not None:
        return kernel.symbols
    path = _kept(kernel)
    deadline = Deadline.after(_ASK_S, f"the symbols of {kernel.spec}")
    with locked(path.with_suffix(".lock"), deadline):
        if not path.exists():
            with progress.task(f"symbols of {kernel.spec}"):
                text = _ask(kernel, qemu, deadline)
            temporary = path.with_suffix(".new")
            temporary.write_text(text)
            temporary.rename(path)
    return path


def _kept(kernel: Kernel) -> Path:
    """The same image in another entry of the cache, with a rebuilt module beside it, has the same symbols."""
    digest = hashlib.sha256(kernel.image.read_bytes()).hexdigest()[:32]
    return cache_dir() / "symbols" / f"{digest}.map"


def _ask(kernel: Kernel, qemu: Qemu, deadline: Deadline) -> str:
    """/proc/kallsyms of a guest on an engine that runs everywhere and needs no symbols."""
    engine = next(engine for engine in ENGINES if not engine.on_host and not engine.emulated)
    with (
        tempfile.TemporaryDirectory(prefix="symbols-") as folder,
        booted(kernel, engine, qemu, Path(folder), deadline) as session,
    ):
        done = session.run(_SCRIPT, deadline)
    # Without CAP_SYSLOG, or with kptr_restrict=2, every address reads as 0.
    if done.status != 0 or SymbolTable.parse(done.stdout[:200_000]).variable("_text") in (None, 0):
        raise HostFault(
            f"kernel {kernel.spec} does not tell its symbols",
            expected="/proc/kallsyms with addresses (CONFIG_KALLSYMS)",
            found=(done.stdout + done.stderr)[:200],
        )
    return done.stdout
