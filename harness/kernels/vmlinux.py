"""The uncompressed kernel inside a bzImage (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header")."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from harness.compression import decompress
from harness.errors import UsageError

_SECTOR = 512
_SETUP_SECTS = 0x1F1
_DEFAULT_SETUP_SECTS = 4  # what 0 stands for
_MAGIC = 0x202
_VERSION = 0x206
_PAYLOAD = 0x248  # payload_offset and payload_length
_PAYLOAD_SINCE = 0x208  # boot protocol 2.08


@dataclass(frozen=True)
class BzImage:
    """The two parts of a bzImage: the real-mode code with the setup header, and the compressed kernel."""

    setup: bytes
    payload: bytes

    @classmethod
    def read(cls, path: Path) -> BzImage:
        """Raises UsageError for a file that is no bzImage, or one of before Linux 2.6.26."""
        image = path.read_bytes()
        magic, version = struct.unpack_from("<4sH", image.ljust(_PAYLOAD, b"\0"), _MAGIC)
        if magic != b"HdrS" or version < _PAYLOAD_SINCE:
            raise UsageError(
                f"{path} is not a bzImage",
                expected=f"HdrS at {_MAGIC:#x} and boot protocol {_PAYLOAD_SINCE:#x} or newer",
                found=f"{magic!r}, protocol {version:#x}",
            )
        setup_size = ((image[_SETUP_SECTS] or _DEFAULT_SETUP_SECTS) + 1) * _SECTOR
        offset, length = struct.unpack_from("<II", image, _PAYLOAD)
        payload = image[setup_size + offset : setup_size + offset + length]
        return cls(image[:setup_size], payload)


def extract_vmlinux(bzimage: Path) -> bytes:
    """The vmlinux in `bzimage`: an ELF file, or still the payload when its compression is not known here.

    Raises UsageError for a file that is no bzImage.
    """
    return decompress(BzImage.read(bzimage).payload)
