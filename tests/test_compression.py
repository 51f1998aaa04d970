from __future__ import annotations

import bz2
import gzip
import lzma

import pytest
import zstandard

from harness.compression import decompress

TEXT = b"a module " * 100


@pytest.mark.parametrize(
    "compressed",
    [
        gzip.compress(TEXT),
        bz2.compress(TEXT),
        lzma.compress(TEXT),
        lzma.compress(TEXT, lzma.FORMAT_ALONE),
        zstandard.compress(TEXT),
    ],
    ids=["gzip", "bzip2", "xz", "lzma", "zstd"],
)
@pytest.mark.parametrize("trailer", [b"", b"\x84\x03\0\0"], ids=["bare", "with the size that a kernel appends"])
def test_round_trip(compressed: bytes, trailer: bytes) -> None:
    assert decompress(compressed + trailer) == TEXT


def test_uncompressed_stays() -> None:
    assert decompress(b"\x7fELF...") == b"\x7fELF..."
