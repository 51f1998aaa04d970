"""Built images: what their header says, where their configuration is found, and what is refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernels import BuildOptions, resolve
from harness.kernels.image import read_release

_RELEASE = "6.18.0+mine"


def _bzimage(payload: bytes = b"") -> bytes:
    """A setup header of one sector as Documentation/arch/x86/boot.rst has it, and `payload`."""
    header = bytearray(0x400)
    header[0x1F1] = 1
    struct.pack_into("<4sH", header, 0x202, b"HdrS", 0x20F)
    struct.pack_into("<H", header, 0x20E, 0x100)
    struct.pack_into("<II", header, 0x248, 0, len(payload))
    text = f"{_RELEASE} (me@host) #1 SMP".encode() + b"\0"
    header[0x300 : 0x300 + len(text)] = text
    return bytes(header) + payload


def _image(folder: Path, payload: bytes = b"") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bzImage"
    path.write_bytes(_bzimage(payload))
    return path


def _modules(folder: Path) -> Path:
    path = folder / "lib/modules" / _RELEASE
    path.mkdir(parents=True)
    (path / "modules.order").touch()
    (path / "modules.builtin").touch()
    (path / "build").symlink_to("/nonexistent")
    return path


def test_release_is_in_the_header(tmp_path: Path) -> None:
    assert read_release(_image(tmp_path)) == _RELEASE


def test_what_is_no_bzimage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(b"\x7fELF" + bytes(0x400))
    with pytest.raises(UsageError, match="vmlinux is not an x86 bzImage"):
        read_release(path)


def test_image_with_modules_and_config_beside_it(tmp_path: Path, cache: Path, deadline: Deadline) -> None:
    # A + in a directory's name as well as in the release, as distributions have it
    image, modules = _image(tmp_path / "a+b"), _modules(tmp_path)
    (image.parent / f"config-{_RELEASE}").write_text("CONFIG_BESIDE=y\n")
    kernel = resolve(f"image:{image}+{modules}", BuildOptions(), deadline)
    assert (kernel.release, kernel.config) == (_RELEASE, {"CONFIG_BESIDE": "y"})
    assert kernel.modules is not None
    assert kernel.modules.name == _RELEASE
    assert (kernel.modules / "modules.dep").exists()
    assert not (modules / "modules.dep").exists()


def test_config_of_the_build_tree(tmp_path: Path, cache: Path, deadline: Deadline) -> None:
    image = _image(tmp_path / "linux/arch/x86/boot")
    (tmp_path / "linux/.config").write_text("CONFIG_BUILT=y\n")
    kernel = resolve(f"image:{image}", BuildOptions(), deadline)
    assert (kernel.config, kernel.modules) == ({"CONFIG_BUILT": "y"}, None)


def test_config_inside_the_image(tmp_path: Path, cache: Path, deadline: Deadline) -> None:
    ikconfig = b"text IKCFG_ST" + gzip.compress(b"CONFIG_IKCONFIG=y\n") + b"IKCFG_ED data"
    image = _image(tmp_path / "boot", gzip.compress(ikconfig) + struct.pack("<I", len(ikconfig)))
    assert resolve(f"image:{image}", BuildOptions(), deadline).config == {"CONFIG_IKCONFIG": "y"}


def test_no_config_says_where_it_was_looked_for(tmp_path: Path, cache: Path, deadline: Deadline) -> None:
    image = _image(tmp_path / "boot")
    with pytest.raises(UsageError, match="configuration cannot be found") as caught:
        resolve(f"image:{image}", BuildOptions(), deadline)
    assert f"config-{_RELEASE}" in caught.value.expected


def test_changed_image_is_another_kernel(tmp_path: Path, cache: Path, deadline: Deadline) -> None:
    image = _image(tmp_path / "boot")
    (image.parent / "config").write_text("CONFIG_A=y\n")
    first = resolve(f"image:{image}", BuildOptions(), deadline)
    image.write_bytes(_bzimage(b"other"))
    assert resolve(f"image:{image}", BuildOptions(), deadline).key != first.key


@pytest.mark.parametrize("rest", ["{tmp}/missing", "{tmp}/missing+{tmp}", "{image}+{tmp}/missing"])
def test_missing_files(tmp_path: Path, cache: Path, deadline: Deadline, rest: str) -> None:
    spec = "image:" + rest.format(tmp=tmp_path, image=_image(tmp_path))
    with pytest.raises(UsageError, match="no such files"):
        resolve(spec, BuildOptions(), deadline)


def test_options_are_refused(tmp_path: Path, cache: Path, deadline: Deadline) -> None:
    with pytest.raises(UsageError, match="booted as it is"):
        resolve(f"image:{_image(tmp_path)}", BuildOptions(config_fragments=("kvm",)), deadline)
