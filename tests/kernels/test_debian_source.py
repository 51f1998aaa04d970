"""Kernels built from Debian's source: configuration, pins, one build directory each, modules of the harness's own."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.debian import Package
from harness.errors import HostFault, UsageError
from harness.kernels import BuildOptions, Kernel, KernelVersion, debian_source, kconfig, resolve, store
from harness.kernels.btf import offsets
from harness.kernels.debian_source import DebianTreeSource
from harness.kernels.own_modules import OWN_MODULES, OwnModule
from harness.kernels.packaged import DebianSource, packages_of
from tests.kernels.test_built import PATCH
from tests.kernels.trees import make_tree

PACKAGE = Package("linux-source-9.8", "9.8.7-1", "sid", "all", 1, "0" * 64)
TDX = {"CONFIG_INTEL_TDX_HOST": "y"}


@pytest.fixture
def fragments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kconfigs"
    folder.mkdir()
    for name in ("small", "harness", "kvm"):
        (folder / f"{name}.config").write_text(f"CONFIG_{name.upper()}=y\nCONFIG_MODULES=y\n")
    (folder / "tdx.config").write_text("CONFIG_TDX=y\nCONFIG_LAST=y\n# CONFIG_KVM is not set\n")
    monkeypatch.setattr(kconfig, "FRAGMENTS", folder)
    return folder


@pytest.fixture
def source(cache: Path, fragments: Path, deadline: Deadline) -> Path:
    """linux-source-9.8, pinned and unpacked."""
    path = make_tree(cache / "sources/linux-source-9.8")
    path.with_name("linux-source-9.8.package").write_text(str(PACKAGE))
    store.root().mkdir(parents=True)
    store.set_pin("debian-source:9.8", asdict(PACKAGE), deadline)
    return path


def _image(kernel: Kernel) -> str:
    return kernel.image.read_text()


def test_configuration(source: Path, deadline: Deadline) -> None:
    kernel = resolve("debian-source:9.8+tdx", BuildOptions(), deadline)
    options = ("TINY", "SMALL", "HARNESS", "MODULES", "TDX", "LAST")
    assert kernel.config == {f"CONFIG_{name}": "y" for name in options}
    assert kernel.release == "9.8.7"
    assert kernel.symbols is not None
    assert kernel.symbols.read_text() == "ffffffff81000000 T _text\n"


def test_variant_of_a_version_has_the_last_word(source: Path, fragments: Path, deadline: Deadline) -> None:
    (fragments / "tdx-9.8.config").write_text("# CONFIG_LAST is not set\n")
    (fragments / "tdx-9.7.config").write_text("CONFIG_UNMET=y\n")
    kernel = resolve("debian-source:9.8+tdx", BuildOptions(), deadline)
    assert "CONFIG_LAST" not in kernel.config
    (fragments / "tdx-9.8.config").write_text("CONFIG_UNMET=y\n")
    with pytest.raises(UsageError, match="CONFIG_UNMET"):
        resolve("debian-source:9.8+tdx", BuildOptions(), deadline)


def test_each_configuration_has_its_own_objects(source: Path, cache: Path, deadline: Deadline) -> None:
    keys = {resolve(f"debian-source:9.8{names}", BuildOptions(), deadline).key for names in ("", "+tdx", "+tdx")}
    assert len(keys) == 2
    found = {path.parent.name: path.read_text() for path in cache.glob("trees/*/*/builds")}
    assert found == {"objects": "built\n", "objects+tdx": "built\n"}


def test_patch_goes_in_and_out(source: Path, tmp_path: Path, deadline: Deadline) -> None:
    (tmp_path / "fix.patch").write_text(PATCH)
    patched = resolve("debian-source:9.8", BuildOptions(patches=(tmp_path / "fix.patch",)), deadline)
    assert _image(patched) == "valid: patched\n"
    assert _image(resolve("debian-source:9.8", BuildOptions(), deadline)) == "valid: one\n"


def test_cached_kernel_needs_no_source(source: Path, deadline: Deadline) -> None:
    first = resolve("debian-source:9.8", BuildOptions(), deadline)
    source.rename(source.with_name("elsewhere"))
    assert resolve("debian-source:9.8", BuildOptions(), deadline).key == first.key


def test_another_version_is_unpacked_anew(source: Path, deadline: Deadline) -> None:
    store.set_pin("debian-source:9.8", asdict(replace(PACKAGE, version="9.8.7-2")), deadline)
    with pytest.raises(HostFault, match=r"http://127\.0\.0\.1:9"):
        resolve("debian-source:9.8", BuildOptions(), deadline)


def test_own_module_is_built_along(
    source: Path, fragments: Path, monkeypatch: pytest.MonkeyPatch, deadline: Deadline
) -> None:
    plain = resolve("debian-source:9.8+tdx", BuildOptions(), deadline)
    own = OwnModule("tdx_driver", KernelVersion(9, 8), KernelVersion(9, 9), "CONFIG_TDX")
    monkeypatch.setattr(debian_source, "OWN_MODULES", (own,))
    kernel = resolve("debian-source:9.8+tdx", BuildOptions(), deadline)
    assert kernel.key != plain.key
    assert kernel.modules is not None
    assert (kernel.modules / "tdx_driver.ko").read_text() == (own.folder / "tdx_driver.c").read_text()
    assert not list(own.folder.glob("*.ko"))  # the project's folder is only read


@pytest.mark.parametrize(
    ("version", "options", "expected"),
    [
        ("6.12", TDX, ["tdx_driver"]),
        ("6.12", {}, []),
        ("6.12", {"CONFIG_INTEL_TDX_HOST": "n"}, []),
        ("6.7", TDX, []),
        ("6.16", TDX, []),  # KVM calls it there
        ("7.3", TDX, []),
    ],
)
def test_which_own_modules_suit(version: str, options: dict[str, str], expected: list[str]) -> None:
    suited = [one for one in OWN_MODULES if one.suits(KernelVersion.parse(version), options)]
    assert [one.name for one in suited if one.needs] == expected
    assert {one.name for one in suited if not one.needs} == {"cpuhp_squatter", "kvm_nofreeze", "syscore_sleeper"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("debian-source:trixie", "'trixie' is not a version"),
        ("debian-source:6.12.95", r"'6\.12\.95' is not a version"),
        ("debian-source:9.8+tdxx", "no kconfig fragment 'tdxx'"),
        ("debian-source:9.8+", "no kconfig fragment ''"),
    ],
)
def test_wrong_specs(source: Path, deadline: Deadline, spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(spec, BuildOptions(), deadline)


def test_modules_only_is_refused(source: Path, deadline: Deadline) -> None:
    with pytest.raises(UsageError, match="modules_only is for debian:"):
        resolve("debian-source:9.8", BuildOptions(modules_only="kvm"), deadline)


@pytest.mark.network
@pytest.mark.parametrize("version", ["6.12", "7.3"])
def test_it_is_the_version_that_debian_means(version: str, deadline: Deadline) -> None:
    [source] = packages_of(DebianTreeSource(f"debian-source:{version}").identity(deadline, update=False))
    [image, *_] = packages_of(DebianSource(f"debian:{version}").identity(deadline, update=False))
    assert (source.name, source.version) == (f"linux-source-{version}", image.version)


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (
            "debian-source:7.3+tdx",
            {"CONFIG_INTEL_TDX_HOST": "y", "CONFIG_KVM_INTEL_TDX": "y", "CONFIG_KEXEC_FILE": "y"},
        ),
        ("debian-source:6.12+tdx", {"CONFIG_INTEL_TDX_HOST": "y", "CONFIG_KEXEC_CORE": "n"}),
        ("debian-source:7.3+tdx+lockdep", {"CONFIG_INTEL_TDX_HOST": "y", "CONFIG_PROVE_LOCKING": "y"}),
    ],
)
def test_real(spec: str, options: dict[str, str]) -> None:
    """10 minutes each on two idle cores, when they are not in the cache."""
    kernel = resolve(spec, BuildOptions(), Deadline.after(2 * 3600, spec))
    assert {name: kernel.config.get(name, "n") for name in options} == options
    assert kernel.symbols is not None
    assert " T x86_64_start_kernel\n" in kernel.symbols.read_text()
    assert offsets(kernel, {"task_struct": ["comm"]})["task_struct"]["comm"] > 0
    assert kernel.modules is not None
    assert ("tdx_driver.ko" in (kernel.modules / "modules.dep").read_text()) == ("6.12" in spec)
