"""The compressions that kernels and modules come in, told apart by their first bytes."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable

import zstandard

# The decompressor objects, not the modules' one-shot functions, since those refuse what follows the stream:
# the kernel appends the uncompressed size to its payload.
_BY_MAGIC: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": lambda data: zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data),
    b"BZh": lambda data: bz2.BZ2Decompressor().decompress(data),
    b"\x5d\x00\x00": lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data),
    b"\xfd7zXZ\x00": lambda data: lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data),
    b"\x28\xb5\x2f\xfd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


def decompress(data: bytes) -> bytes:
    """What `data` holds; data in none of gzip, bzip2, lzma, xz and zstd is returned as it is."""
    for magic, decompressor in _BY_MAGIC.items():
        if data.startswith(magic):
            return decompressor(data)
    return data
