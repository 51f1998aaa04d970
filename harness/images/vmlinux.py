"""The uncompressed kernel inside a bzImage.

A bzImage decompresses itself under emulation, which costs more than the host's doing it once. QEMU starts
an ELF vmlinux that has the PVH entry note (CONFIG_PVH) directly, with the same firmware tables.
Formats: Documentation/arch/x86/boot.rst; arch/x86/platform/pvh/head.S and Xen's elfnote.h for the note.
"""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from harness.cache import disk_full_is_a_host_fault, locked
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.images.compression import decompress
from harness.paths import cache_dir

_SECTOR = 512
_SETUP_SECTS = 0x1F1  # offsets in the setup header
_MAGIC = 0x202
_PAYLOAD = 0x248  # payload_offset and payload_length, since boot protocol 2.08
_DEFAULT_SETUP_SECTS = 4  # what 0 stands for

_XEN_ELFNOTE_PHYS32_ENTRY = "18"  # pyelftools has no name for it


def extract_vmlinux(bzimage: Path) -> bytes:
    """The vmlinux in `bzimage`, as an ELF file. Raises UsageError for a file that is no bzImage.

    A payload in a compression that compression.py does not know is returned as it is: `has_pvh_entry` refuses it.
    """
    image = bzimage.read_bytes()
    if image[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise UsageError(f"{bzimage} is not a bzImage", expected=f"HdrS at offset {_MAGIC:#x}")
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = ((image[_SETUP_SECTS] or _DEFAULT_SETUP_SECTS) + 1) * _SECTOR + offset
    return decompress(image[start : start + length])


def has_pvh_entry(vmlinux: bytes) -> bool:
    """Whether QEMU can start this vmlinux: an ELF file with Xen's PHYS32_ENTRY note."""
    try:
        elf = ELFFile(io.BytesIO(vmlinux))
        notes = [n for s in elf.iter_segments() if isinstance(s, NoteSegment) for n in s.iter_notes()]
    except ELFError:
        return False
    return any(note["n_name"] == "Xen" and str(note["n_type"]) == _XEN_ELFNOTE_PHYS32_ENTRY for note in notes)


def boot_file(bzimage: Path, deadline: Deadline) -> Path:
    """What to give QEMU as -kernel: the vmlinux in the cache when it can be started, else `bzimage` itself."""
    key = hashlib.sha256(bzimage.read_bytes()).hexdigest()[:32]
    vmlinux = cache_dir() / "images" / f"vmlinux-{key}"
    with locked(vmlinux.with_suffix(".lock"), deadline):
        if not vmlinux.exists():
            extracted = extract_vmlinux(bzimage)
            stage = vmlinux.with_suffix(".new")
            with disk_full_is_a_host_fault(vmlinux.parent):
                # Empty: has been looked at, and cannot be started.
                stage.write_bytes(extracted if has_pvh_entry(extracted) else b"")
                stage.replace(vmlinux)
    return vmlinux if vmlinux.stat().st_size else bzimage
