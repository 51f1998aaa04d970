from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.images.direct import direct_image
from harness.kernels.model import Kernel
from harness.kernels.vmlinux import extract_vmlinux
from tests.kernels.images import SETUP_SIZE, bzimage

ENTRY = 0x1000B53
TEXT, PER_CPU = b"kernel text", b"per-cpu data"


def vmlinux(physical: int = 0x1000000) -> bytes:
    """An ELF file with two segments, the second with a physical address that its virtual one does not tell."""

    def program_header(offset: int, virtual: int, address: int, data: bytes) -> bytes:
        return struct.pack("<IIQQQQQQ", 1, 5, offset, virtual, address, len(data), len(data) + 8, 0x1000)

    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0"),
        *(2, 62, 1, ENTRY, 64, 0, 0, 64, 56, 2, 64, 0, 0),
    )
    at = 64 + 2 * 56
    headers = program_header(at, 0xFFFFFFFF81000000, physical, TEXT)
    headers += program_header(at + len(TEXT), 0, physical + 0x2000, PER_CPU)
    return header + headers + TEXT + PER_CPU


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


def direct(image: Path) -> Path:
    return direct_image(Kernel("test", "6.12", image, {}, None), Deadline.after(60, "the test"))


def test_payload_is_found_and_decompressed(tmp_path: Path) -> None:
    assert extract_vmlinux(bzimage(tmp_path / "bz", gzip.compress(vmlinux()))) == vmlinux()


@pytest.mark.parametrize("content", [b"", b"MZ" + bytes(0x1000), b"\x7fELF" + bytes(0x1000)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bz").write_bytes(content)
    with pytest.raises(UsageError, match="is not a bzImage"):
        extract_vmlinux(tmp_path / "bz")


def test_segments_lie_at_their_physical_addresses(tmp_path: Path) -> None:
    source = bzimage(tmp_path / "bz", gzip.compress(vmlinux()))
    image = direct(source).read_bytes()
    assert image[:SETUP_SIZE] == source.read_bytes()[:SETUP_SIZE]
    memory = image[SETUP_SIZE:]  # from 1 MiB
    assert memory[0xF00000:].startswith(TEXT)
    assert memory[0xF02000:] == PER_CPU + bytes(8)
    assert struct.unpack_from("<Q", memory, 0xFF8) == (ENTRY,)


def test_first_4_gib_are_mapped_to_themselves(tmp_path: Path) -> None:
    memory = direct(bzimage(tmp_path / "bz", gzip.compress(vmlinux()))).read_bytes()[SETUP_SIZE:]

    def entry(table: int, index: int) -> int:
        (value,) = struct.unpack_from("<Q", memory, table - 0x100000 + index * 8)
        return int(value)

    def translate(address: int) -> int:
        pdpt = entry(0x102000, address >> 39) & ~0xFFF
        directory = entry(pdpt, address >> 30 & 511) & ~0xFFF
        page = entry(directory, address >> 21 & 511)
        assert page & 0x83 == 0x83  # present, writable, large
        return (page & ~0x1FFFFF) + (address & 0x1FFFFF)

    for address in (0, 0x1000B53, 0x7FFFFFFF, 0xC0201234, 0xFFFFFFFF):
        assert translate(address) == address


def test_second_time_it_comes_from_the_cache(tmp_path: Path) -> None:
    image = bzimage(tmp_path / "bz", gzip.compress(vmlinux()))
    first = direct(image)
    assert direct(image) == first
    assert first.stat().st_mtime_ns == direct(image).stat().st_mtime_ns


@pytest.mark.parametrize(
    "payload",
    [b"\x02\x21\x4c\x18 lz4", gzip.compress(b"no ELF file"), gzip.compress(vmlinux(physical=0x100000))],
    ids=["unknown compression", "no vmlinux", "loaded where start64 stands"],
)
def test_kernel_that_cannot_be_started_directly_starts_by_itself(tmp_path: Path, payload: bytes) -> None:
    image = bzimage(tmp_path / "bz", payload)
    assert direct(image) == image
    assert direct(image) == image  # and the cache remembers
