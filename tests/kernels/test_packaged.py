"""Which package a debian: spec means, and that it goes on meaning it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.debian import Candidate
from harness.errors import UsageError
from harness.kernels import BuildOptions, resolve
from harness.kernels.packaged import choose


def _image(version: str, suite: str) -> Candidate:
    return Candidate(f"linux-image-{version}", version, suite)


# As bookworm's suites stood when 6.12 came to bookworm-security beside the default kernel, newest first.
_SECURITY_12 = _image("6.12.117-1~deb12u1", "bookworm-security")
_BACKPORT = _image("6.12.95-1~bpo12+1", "bookworm-backports")
_OLD_BACKPORT = _image("6.12.9-1~bpo12+1", "bookworm-backports")
_SECURITY = _image("6.1.192-2", "bookworm-security")
_STABLE = _image("6.1.176-1", "bookworm")
_IMAGES = [_SECURITY_12, _BACKPORT, _OLD_BACKPORT, _SECURITY, _STABLE]
_DEFAULTS = [
    Candidate("linux-image-amd64", image.version, image.suite)
    for image in (_BACKPORT, _OLD_BACKPORT, _SECURITY, _STABLE)
]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("6.1", _SECURITY),  # not 6.12
        ("6.12", _BACKPORT),  # a suite's default kernel comes first
        ("6.12.117", _SECURITY_12),
        ("6.12.9", _OLD_BACKPORT),  # not 6.12.95
        ("6.12.95-1~bpo12+1", _BACKPORT),
        ("6.12.95-1", None),  # a revision is exact
        ("6.1.176-1", _STABLE),
        ("bookworm", _SECURITY),  # with its updates, without its backports
        ("bookworm-backports", _BACKPORT),
        ("bookworm-security", _SECURITY),
        ("7.3", None),
    ],
)
def test_what_a_spec_means(wanted: str, chosen: Candidate | None) -> None:
    assert choose(wanted, _IMAGES, _DEFAULTS) == chosen


@pytest.mark.parametrize("spec", ["debian:bullfrog", "debian:latest", "debian:6"])
def test_neither_version_nor_suite(cache: object, deadline: Deadline, spec: str) -> None:
    with pytest.raises(UsageError, match="neither a version nor a suite") as caught:
        resolve(spec, BuildOptions(), deadline)
    assert "bookworm-backports" in caught.value.expected


def test_configuration_of_a_package_cannot_be_changed(cache: object, deadline: Deadline) -> None:
    with pytest.raises(UsageError, match="has the configuration that it has") as caught:
        resolve("debian:6.12", BuildOptions(config_fragments=("kvm",)), deadline)
    assert "tree: or git:" in caught.value.hint


def test_patch_to_a_package_needs_modules_only(cache: object, tmp_path: Path, deadline: Deadline) -> None:
    patch = tmp_path / "x.patch"
    patch.write_text("--- a/virt/x.c\n+++ b/virt/x.c\n@@ -1 +1 @@\n-a\n+b\n")
    with pytest.raises(UsageError, match="can only rebuild its KVM modules") as caught:
        resolve("debian:6.12", BuildOptions(patches=(patch,)), deadline)
    assert "--modules-only kvm" in caught.value.hint


@pytest.mark.network
def test_version_that_debian_does_not_have_lists_what_it_has(deadline: Deadline) -> None:
    with pytest.raises(UsageError, match=r"no kernel debian:6\.99") as caught:
        resolve("debian:6.99", BuildOptions(), deadline)
    assert "bookworm-security: 6." in caught.value.evidence
    assert "trixie: 6." in caught.value.evidence


@pytest.mark.network
def test_a_cached_kernel_needs_no_network(deadline: Deadline, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = resolve("debian:6.1", BuildOptions(), deadline)
    monkeypatch.setenv("HARNESS_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    assert resolve("debian:6.1", BuildOptions(), Deadline.after(2, "a look into the cache")) == kernel
    assert kernel.release.startswith("6.1.")
    assert kernel.modules is not None
    assert (kernel.modules / "modules.dep").stat().st_size > 100_000
    assert kernel.config["CONFIG_KVM_AMD"] == "m"
