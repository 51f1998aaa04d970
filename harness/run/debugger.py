"""gdb on a guest: the symbols that there are of its kernel, and the command that uses them."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection

from harness.errors import HarnessError
from harness.kernels.model import Kernel
from harness.kernels.vmlinux import extract_vmlinux
from harness.paths import cache_dir
from harness.probes.addresses import SymbolTable
from harness.probes.symbol_file import symbol_file


def gdb_command(kernel: Kernel, symbols: SymbolTable, target: str) -> str:
    """A pasteable command for the gdbstub at the socket `target`."""
    file = debug_vmlinux(kernel) or symbol_file(symbols)
    return shlex.join(["gdb", str(file), "-ex", f"target remote {target}"])


def debug_vmlinux(kernel: Kernel) -> Path | None:
    """The vmlinux with types and lines, of a kernel that was built here and is the last of its tree."""
    built = sorted(cache_dir().glob("trees/*/objects*/vmlinux"))
    if not built:
        return None
    try:
        wanted = _build_id(ELFFile(io.BytesIO(extract_vmlinux(kernel.image))))
    except (ELFError, HarnessError):
        return None
    return next((path for path in built if wanted and _build_id_of(path) == wanted), None)


def _build_id_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _build_id(ELFFile(file))
    except (OSError, ELFError):  # it is being built
        return ""


def _build_id(elf: ELFFile) -> str:
    section = elf.get_section_by_name(".notes")
    notes = section.iter_notes() if isinstance(section, NoteSection) else ()
    return next((str(note["n_desc"]) for note in notes if note["n_type"] == "NT_GNU_BUILD_ID"), "")
