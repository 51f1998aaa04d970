"""bzImages for tests: a setup header, a decompressor of a few bytes, and a payload."""

from __future__ import annotations

import struct
from pathlib import Path

SETUP_SIZE = 5 * 512


def bzimage(path: Path, payload: bytes) -> Path:
    """Writes what Documentation/arch/x86/boot.rst asks for of a kernel with `payload` to `path`, and returns it."""
    setup = bytearray(SETUP_SIZE)
    setup[0x1F1] = SETUP_SIZE // 512 - 1
    struct.pack_into("<4sH", setup, 0x202, b"HdrS", 0x20F)
    struct.pack_into("<II", setup, 0x248, 0x100, len(payload))
    path.write_bytes(setup + b"decompressor".ljust(0x100, b"\0") + payload + b"trailer")
    return path
