from __future__ import annotations

import lzma
import struct
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.images.modules import ModuleTree, module_name
from harness.kernels.model import Kernel

RELEASE = "6.12.95-test"
KVM = "kernel/arch/x86/kvm"

LISTS = {
    "modules.dep": f"""\
{KVM}/kvm.ko.xz: kernel/virt/lib/irqbypass.ko.xz
{KVM}/kvm-amd.ko.xz: kernel/drivers/crypto/ccp/ccp.ko.xz {KVM}/kvm.ko.xz kernel/virt/lib/irqbypass.ko.xz
kernel/drivers/crypto/ccp/ccp.ko.xz:
kernel/virt/lib/irqbypass.ko.xz:
kernel/lib/crc32c.ko.xz:
kernel/fs/softy.ko.xz:
""",
    "modules.builtin": "kernel/drivers/virtio/virtio_pci.ko\n",
    "modules.alias": "# Aliases\nalias crypto-aes* ccp\nalias cpu:type:x86,ven*fam*mod*:feature:*00C2* kvm_amd\n",
    "modules.softdep": "softdep softy pre: crc32c virtio_pci absent post: ccp\n",
}


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    root = tmp_path / RELEASE
    for line in LISTS["modules.dep"].splitlines():
        file = root / line.partition(":")[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(lzma.compress(file.name.encode()))
    for name, text in LISTS.items():
        (root / name).write_text(text)
    return Kernel("test:6.12", RELEASE, tmp_path / "bzImage", {"CONFIG_KVM_AMD": "m", "CONFIG_KVM_XEN": "y"}, root)


def names(kernel: Kernel, *wanted: str) -> list[str]:
    return [module.name for module in ModuleTree(kernel).resolve(wanted)]


def module_file(path: Path, depends: str) -> Path:
    """A minimal ELF file with a .modinfo section."""
    modinfo = b"license=GPL\0depends=" + depends.encode() + b"\0"
    strings = b"\0.modinfo\0.shstrtab\0"
    body = modinfo + strings
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0"),
        *(1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, 3, 2),
    )

    def section(name: int, kind: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0)

    table = bytes(64) + section(1, 1, 64, len(modinfo)) + section(10, 3, 64 + len(modinfo), len(strings))
    path.write_bytes(header + body + table)
    return path


@pytest.mark.parametrize("path", ["kvm-amd.ko", "a/b/kvm-amd.ko.xz", "kvm_amd.ko.zst"])
def test_module_name(path: str) -> None:
    assert module_name(path) == "kvm_amd"


def test_dependencies_come_first(kernel: Kernel) -> None:
    assert names(kernel, "kvm_amd") == ["irqbypass", "kvm", "ccp", "kvm_amd"]


def test_each_module_once_in_the_order_asked(kernel: Kernel) -> None:
    assert names(kernel, "kvm", "kvm-amd", "kvm") == ["irqbypass", "kvm", "ccp", "kvm_amd"]


def test_builtin_needs_no_file(kernel: Kernel) -> None:
    assert names(kernel, "virtio_pci") == []


def test_alias_brings_what_it_matches(kernel: Kernel) -> None:
    assert names(kernel, "crypto-aes-ccp") == ["ccp"]


def test_soft_dependencies_that_exist_come_first(kernel: Kernel) -> None:
    assert names(kernel, "softy") == ["crc32c", "softy"]


def test_files_are_decompressed(kernel: Kernel) -> None:
    (ccp,) = ModuleTree(kernel).resolve(["ccp"])
    assert ccp.path == "kernel/drivers/crypto/ccp/ccp.ko"
    assert ccp.read() == b"ccp.ko.xz"


def test_missing_module_is_named_with_its_config(kernel: Kernel) -> None:
    with pytest.raises(UsageError) as caught:
        names(kernel, "kvm_xen")
    assert "kernel test:6.12 (6.12.95-test) has no module 'kvm_xen'" in str(caught.value)
    assert "found: CONFIG_KVM_XEN=y" in str(caught.value)


def test_overlay_replaces_by_name_and_brings_its_own_dependencies(kernel: Kernel, tmp_path: Path) -> None:
    patched = module_file(tmp_path / "patched.ko", "kvm,crc32c")
    overlaid = Kernel("test", RELEASE, kernel.image, {}, kernel.modules, overlay={"kvm_amd": patched})
    modules = ModuleTree(overlaid).resolve(["kvm_amd"])
    assert [module.name for module in modules] == ["irqbypass", "kvm", "crc32c", "kvm_amd"]
    assert modules[-1].path == f"{KVM}/kvm-amd.ko"
    assert modules[-1].read() == patched.read_bytes()


def test_overlay_may_add_a_module(kernel: Kernel, tmp_path: Path) -> None:
    added = module_file(tmp_path / "new.ko", "")
    overlaid = Kernel("test", RELEASE, kernel.image, {}, kernel.modules, overlay={"probe_me": added})
    (module,) = ModuleTree(overlaid).resolve(["probe-me"])
    assert module.path == "updates/probe_me.ko"


def test_kernel_without_modules_has_none(tmp_path: Path) -> None:
    tree = ModuleTree(Kernel("test", RELEASE, tmp_path / "bzImage", {}, None))
    assert not tree.has("kvm")
