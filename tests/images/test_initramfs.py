from __future__ import annotations

import hashlib
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import HostFault, UsageError
from harness.images import cpio
from harness.images.initramfs import GuestImage, build_image
from harness.images.recipe import load_recipe
from harness.kernels.model import Kernel
from harness.paths import cache_dir

pytestmark = pytest.mark.network


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own that shares the user's packages, so that they are downloaded once."""
    shared, own = cache_dir() / "apt", tmp_path / "cache"
    own.mkdir()
    shared.mkdir(parents=True, exist_ok=True)
    (own / "apt").symlink_to(shared)
    monkeypatch.setenv("HARNESS_CACHE", str(own))
    return own


def build(kernel: Kernel, *modules: str) -> GuestImage:
    return build_image(kernel, load_recipe(), modules, Deadline.after(300, "the test"))


def files(image: GuestImage) -> set[str]:
    listing = subprocess.run(["cpio", "-t", "--quiet"], stdin=image.base.open("rb"), capture_output=True, check=True)
    return set(listing.stdout.decode().splitlines())


def test_built_twice_the_bytes_are_the_same(stock_kernel: Kernel, fresh_cache: Path) -> None:
    first = build(stock_kernel)
    digest = hashlib.sha256(first.base.read_bytes()).hexdigest()
    first.base.unlink()
    first.base.parent.rmdir()
    again = build(stock_kernel)
    assert again == first
    assert hashlib.sha256(again.base.read_bytes()).hexdigest() == digest


def test_cached_image_comes_at_once(stock_kernel: Kernel) -> None:
    build(stock_kernel)
    begin = time.monotonic()
    build(stock_kernel)
    assert time.monotonic() - begin < 2


def test_image_has_modules_programs_and_their_libraries(stock_kernel: Kernel) -> None:
    have = files(build(stock_kernel, "tun"))
    lib = f"lib/modules/{stock_kernel.release}"
    assert {"init", "bin/guestctl", "lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"} <= have
    assert {f"{lib}/modules.dep.bin", f"{lib}/kernel/drivers/net/tun.ko"} <= have


def test_missing_module(stock_kernel: Kernel) -> None:
    with pytest.raises(UsageError, match="has no module 'flux_capacitor'"):
        build(stock_kernel, "flux_capacitor")


def test_overlay_changes_the_image_and_its_key(stock_kernel: Kernel, tmp_path: Path) -> None:
    tree = stock_kernel.modules
    assert tree is not None
    (source,) = tree.glob("kernel/drivers/block/virtio_blk.ko*")
    patched = tmp_path / "patched.ko"
    patched.write_bytes(subprocess.run(["xz", "-dc", source], capture_output=True, check=True).stdout + b"patched")
    plain, overlaid = build(stock_kernel), build(replace(stock_kernel, overlay={"virtio_blk": patched}))
    assert plain.key != overlaid.key
    assert patched.read_bytes() in overlaid.base.read_bytes()
    assert patched.read_bytes() not in plain.base.read_bytes()


def test_image_of_a_run_is_the_base_and_its_overlay(stock_kernel: Kernel, tmp_path: Path) -> None:
    image = build(stock_kernel)
    overlay = cpio.pack([cpio.file("etc/run", b"1")])
    written = image.write(tmp_path / "initrd", overlay)
    assert written.read_bytes() == image.base.read_bytes() + overlay


def test_helper_that_does_not_compile_leaves_no_image(
    stock_kernel: Kernel, fresh_cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.c").write_text("int main(void) { return undeclared; }")
    recipe = load_recipe().model_copy(update={"helpers": {"/bin/broken": tmp_path / "broken.c"}})
    with pytest.raises(HostFault, match="undeclared"):
        build_image(stock_kernel, recipe, [], Deadline.after(300, "the test"))
    assert not list((fresh_cache / "images").glob("*/initramfs.cpio"))


def test_program_that_no_package_has(stock_kernel: Kernel) -> None:
    recipe = load_recipe().model_copy(update={"programs": ("/bin/emacs",)})
    with pytest.raises(HostFault, match="no package of the guest image has /bin/emacs"):
        build_image(stock_kernel, recipe, [], Deadline.after(300, "the test"))
