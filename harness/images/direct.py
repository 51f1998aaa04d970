"""A bzImage without its decompressor, to boot faster under emulation.

Decompressing a Debian kernel takes the emulated CPU over a second on every boot; the host does it once. The image
made here has the bzImage's own real-mode code and header, and in place of the decompressor a few instructions
(guest-images/src/start64.S) in front of the kernel's segments, uncompressed and already at their addresses:

    0x00100000  start64, the kernel's entry address, page tables
    0x01000000  the segments of vmlinux (CONFIG_PHYSICAL_START)

QEMU loads it like any bzImage. Its other way to start a vmlinux, the PVH entry, cannot be used: QEMU registers the
segments as ROM and writes them again at every reset, and the wake-up from S3 is one, so a suspended kernel would
find its data as it was at boot. Measured on 6.1, 6.12 and 7.3: a kernel started by PVH never resumes.

The kernel is not relocated, as with `nokaslr`, and gets four-level page tables.
"""

from __future__ import annotations

import hashlib
import io
import struct
import tempfile
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from harness import progress
from harness.cache import disk_full_is_a_host_fault, locked, require_making
from harness.compression import decompress
from harness.deadline import Deadline
from harness.kernels.model import Kernel
from harness.kernels.vmlinux import BzImage
from harness.paths import PROJECT, cache_dir
from harness.process import run

_START = PROJECT / "guest-images" / "src" / "start64.S"

# Addresses; the first is where every boot loader puts a bzImage, the next two are known to start64.S too.
_LOAD = 0x100000
_ENTRY = 0x100FF8
_PAGE_TABLES = 0x102000
_PAGE_TABLES_END = _PAGE_TABLES + 6 * 0x1000

_MAPPED_GIB = 4  # the boot loader puts nothing above
_PAGE = 0x1000
_PRESENT_WRITABLE = 0x3
_LARGE = 0x80  # 2 MiB


def direct_image(kernel: Kernel, deadline: Deadline) -> Path:
    """What to give QEMU as -kernel: an image without decompressor in the cache, or `kernel.image` as it is.

    The latter when the kernel is compressed in a way that the harness cannot undo (lz4, lzo), or is not a
    64-bit kernel loaded above 2 MiB. Raises UsageError when the image is no bzImage.
    """
    # By content, not by kernel.key: kernels that differ in their modules only share it.
    key = hashlib.sha256(kernel.image.read_bytes() + _START.read_bytes()).hexdigest()[:32]
    path = cache_dir() / "images" / f"direct-{key}.bzImage"
    with locked(path.with_suffix(".lock"), deadline):
        if not path.exists():
            require_making(f"the image of {kernel.release}")
            with progress.task(f"decompress kernel {kernel.release}"), disk_full_is_a_host_fault(path.parent):
                stage = path.with_suffix(".new")
                stage.write_bytes(_without_decompressor(BzImage.read(kernel.image), deadline))
                stage.replace(path)
    # An empty file notes that the kernel has been looked at and has to start by itself.
    return path if path.stat().st_size else kernel.image


def _without_decompressor(image: BzImage, deadline: Deadline) -> bytes:
    try:
        elf = ELFFile(io.BytesIO(decompress(image.payload)))
    except ELFError:
        return b""
    segments = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
    if elf.elfclass != 64 or min(segment["p_paddr"] for segment in segments) < _PAGE_TABLES_END:
        return b""
    memory = bytearray(max(segment["p_paddr"] + segment["p_memsz"] for segment in segments) - _LOAD)
    _put(memory, _LOAD, _start_code(deadline))
    _put(memory, _ENTRY, struct.pack("<Q", elf["e_entry"]))
    _put(memory, _PAGE_TABLES, _identity_map())
    for segment in segments:
        _put(memory, segment["p_paddr"], segment.data())
    return image.setup + memory


def _put(memory: bytearray, address: int, data: bytes) -> None:
    memory[address - _LOAD : address - _LOAD + len(data)] = data


def _start_code(deadline: Deadline) -> bytes:
    with tempfile.TemporaryDirectory(prefix="harness-start64.") as scratch:
        program = Path(scratch) / "start64"
        linking = (f"-Wl,-Ttext={_LOAD:#x}", "-Wl,--oformat=binary", "-Wl,--build-id=none")
        run(["gcc", "-m32", "-nostdlib", "-static", *linking, "-o", program, _START], deadline)
        return program.read_bytes()


def _identity_map() -> bytes:
    """Four-level page tables that map the first 4 GiB to themselves, to stand at _PAGE_TABLES.

    One page each: the PML4, the PDPT, then a page directory of 2 MiB pages per GiB.
    """
    pdpt, directories = _PAGE_TABLES + _PAGE, _PAGE_TABLES + 2 * _PAGE
    pages = [
        _table(pdpt + _PRESENT_WRITABLE),
        _table(*(directories + gib * _PAGE + _PRESENT_WRITABLE for gib in range(_MAPPED_GIB))),
    ]
    pages += [
        _table(*(((gib * 512 + i) << 21) + _LARGE + _PRESENT_WRITABLE for i in range(512)))
        for gib in range(_MAPPED_GIB)
    ]
    return b"".join(pages)


def _table(*entries: int) -> bytes:
    return struct.pack(f"<{len(entries)}Q", *entries).ljust(_PAGE, b"\0")
