"""The shared libraries of a program, found without running it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from harness.errors import HostFault

# Debian's multiarch directories, before and after the merge of / and /usr. Not /lib64: its absolute links
# would lead out of the unpacked packages.
LIBRARY_FOLDERS = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")


def shared_libraries(programs: Iterable[Path], root: Path) -> list[Path]:
    """The libraries and loaders that `programs` need, found in the unpacked packages `root`, sorted by name.

    Transitive over DT_NEEDED (ld.so(8)). Raises HostFault naming a library that is not there, and who needs it.
    """
    found: dict[str, Path] = {}
    waiting = list(programs)
    while waiting:
        program = waiting.pop()
        for name in _needed(program):
            if name not in found:
                found[name] = _find(name, root, program)
                waiting.append(found[name])
    return [found[name] for name in sorted(found)]


def _needed(program: Path) -> list[str]:
    """File names of the program's libraries, and of its loader; nothing for a static one or a script."""
    with program.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return []
        elf = ELFFile(file)
        dynamic = elf.get_section_by_name(".dynamic")
        tags = dynamic.iter_tags("DT_NEEDED") if isinstance(dynamic, DynamicSection) else ()
        names = [str(tag.needed) for tag in tags]  # type: ignore[attr-defined]  # set by the constructor, per tag
        names += [Path(s.get_interp_name()).name for s in elf.iter_segments() if isinstance(s, InterpSegment)]
        return names


def _find(name: str, root: Path, needed_by: Path) -> Path:
    for folder in LIBRARY_FOLDERS:
        candidate = root / folder / name
        if candidate.exists():
            return candidate
    raise HostFault(
        f"{needed_by.name} needs {name}, which none of the guest image's packages has",
        expected=f"{name} in one of {', '.join(LIBRARY_FOLDERS)}",
        hint="add the package that has it to the recipe",
    )
