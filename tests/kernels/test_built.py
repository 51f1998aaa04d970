"""Kernels from source: the user's tree is only read, what comes out follows what went in, and it is incremental."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.debian import Archive
from harness.errors import UsageError
from harness.kernels import BuildOptions, Kernel, resolve
from harness.kernels.image import read_release
from tests.kernels.trees import make_tree

PATCH = """\
--- a/init/main.c
+++ b/init/main.c
@@ -1 +1 @@
-valid: one
+valid: patched
"""
_NEW_FILE = """\
--- /dev/null
+++ b/init/new.c
@@ -0,0 +1 @@
+new
"""


@pytest.fixture
def tree(tmp_path: Path, cache: Path) -> Path:
    return make_tree(tmp_path / "linux")


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    path = tmp_path / "fix.patch"
    path.write_text(PATCH)
    return path


def _git(tree: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *identity, "-C", tree, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def _image(kernel: Kernel) -> str:
    return kernel.image.read_text()


def _builds(cache: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in cache.glob("trees/*/objects/builds"))


def test_tree_becomes_a_kernel(tree: Path, deadline: Deadline) -> None:
    kernel = resolve(f"tree:{tree}", BuildOptions(), deadline)
    assert (_image(kernel), kernel.release, kernel.modules) == ("valid: one\n", "9.8.7", None)
    assert kernel.config == {"CONFIG_DEFAULT": "y"}


def test_same_tree_is_built_once(tree: Path, cache: Path, deadline: Deadline) -> None:
    first = resolve(f"tree:{tree}", BuildOptions(), deadline)
    (tree / "init/main.o").write_text("ignored by git, so not part of the kernel")
    assert resolve(f"tree:{tree}", BuildOptions(), deadline).key == first.key
    assert _builds(cache) == 1


def test_changed_tree_is_another_kernel(tree: Path, cache: Path, deadline: Deadline) -> None:
    first = resolve(f"tree:{tree}", BuildOptions(), deadline)
    (tree / "init/main.c").write_text("valid: two\n")
    second = resolve(f"tree:{tree}", BuildOptions(), deadline)
    assert (_image(first), _image(second)) == ("valid: one\n", "valid: two\n")
    assert first.key != second.key


def test_own_config_of_the_tree_is_used(tree: Path, deadline: Deadline) -> None:
    (tree / ".config").write_text("CONFIG_OWN=y\n")
    assert resolve(f"tree:{tree}", BuildOptions(), deadline).config == {"CONFIG_OWN": "y"}


def test_patch_goes_into_a_copy_and_out_again(tree: Path, patch: Path, tmp_path: Path, deadline: Deadline) -> None:
    more = tmp_path / "more.patch"
    more.write_text(_NEW_FILE)
    before = sorted((path, path.stat().st_mtime_ns) for path in tree.rglob("*"))
    patched = resolve(f"tree:{tree}", BuildOptions(patches=(patch, more)), deadline)
    stock = resolve(f"tree:{tree}", BuildOptions(), deadline)
    assert (_image(patched), _image(stock)) == ("valid: patched\n", "valid: one\n")
    assert sorted((path, path.stat().st_mtime_ns) for path in tree.rglob("*")) == before
    assert not list(tmp_path.glob("cache/trees/*/source/init/new.c"))


def test_checkout_touches_only_what_differs(tree: Path, patch: Path, cache: Path, deadline: Deadline) -> None:
    resolve(f"tree:{tree}", BuildOptions(), deadline)
    [kept], [changed] = cache.glob("trees/*/source/Kconfig"), cache.glob("trees/*/source/init/main.c")
    before = kept.stat().st_mtime_ns, changed.stat().st_mtime_ns
    resolve(f"tree:{tree}", BuildOptions(patches=(patch,)), deadline)
    assert kept.stat().st_mtime_ns == before[0]
    assert changed.stat().st_mtime_ns > before[1]


def test_patch_that_does_not_apply_leaves_the_cache(tree: Path, patch: Path, cache: Path, deadline: Deadline) -> None:
    (tree / "init/main.c").write_text("valid: something else\n")
    with pytest.raises(UsageError, match=r"fix\.patch does not apply: init/main\.c, hunk 1"):
        resolve(f"tree:{tree}", BuildOptions(patches=(patch,)), deadline)
    assert [path.name for path in (cache / "kernels").iterdir() if path.is_dir()] == []
    assert _image(resolve(f"tree:{tree}", BuildOptions(), deadline)) == "valid: something else\n"


def test_tree_that_does_not_compile_shows_the_error(tree: Path, deadline: Deadline) -> None:
    (tree / "init/main.c").write_text("broken\n")
    with pytest.raises(UsageError, match="does not compile") as caught:
        resolve(f"tree:{tree}", BuildOptions(), deadline)
    assert "init/main.c:1: error: this does not compile" in caught.value.evidence


def test_fragment_is_merged_and_checked(tree: Path, tmp_path: Path, deadline: Deadline) -> None:
    good, bad = tmp_path / "good.config", tmp_path / "bad.config"
    good.write_text("CONFIG_EXTRA=y\n")
    bad.write_text("CONFIG_UNMET=y\n")
    kernel = resolve(f"tree:{tree}", BuildOptions(config_fragments=(str(good),)), deadline)
    assert kernel.config == {"CONFIG_DEFAULT": "y", "CONFIG_EXTRA": "y"}
    with pytest.raises(UsageError, match="CONFIG_UNMET") as caught:
        resolve(f"tree:{tree}", BuildOptions(config_fragments=(str(bad),)), deadline)
    assert "wanted y" in caught.value.evidence
    assert "depends on MISSING [MISSING=n]" in caught.value.evidence


def test_git_revision(tree: Path, deadline: Deadline) -> None:
    _git(tree, "init", "--quiet")
    _git(tree, "add", "--force", "Makefile", "Kconfig", "init")
    _git(tree, "commit", "--quiet", "-m", "one")
    _git(tree, "tag", "v1")
    (tree / "init/main.c").write_text("valid: uncommitted\n")
    status = _git(tree, "status", "--porcelain")
    kernel = resolve(f"git:{tree}@v1", BuildOptions(), deadline)
    assert _image(kernel) == "valid: one\n"
    assert kernel.provenance["commit"] == _git(tree, "rev-parse", "HEAD")
    assert _image(resolve(f"tree:{tree}", BuildOptions(), deadline)) == "valid: uncommitted\n"
    assert _git(tree, "status", "--porcelain") == status
    assert _git(tree, "worktree", "list").count("\n") == 0


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("tree:{tree}/missing", "is not a directory"),
        ("tree:{tree}/init", "not a kernel source tree"),
        ("git:{tree}", "no revision"),
        ("git:{tree}@v1", "has no revision v1"),
    ],
)
def test_wrong_specs(tree: Path, deadline: Deadline, spec: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        resolve(spec.format(tree=tree), BuildOptions(), deadline)


def test_modules_only_is_refused(tree: Path, deadline: Deadline) -> None:
    with pytest.raises(UsageError, match="modules_only is for debian:"):
        resolve(f"tree:{tree}", BuildOptions(modules_only="kvm"), deadline)


@pytest.mark.slow
@pytest.mark.network
def test_a_real_tree(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's 6.12 as small as it can be, with a module, incrementally: minutes, of which most are the snapshot."""
    deadline = Deadline.after(3600, "a real kernel")
    monkeypatch.delenv("HARNESS_DEBIAN_MIRROR")
    archive = Archive()
    archive.unpack(
        [archive.find("linux-source-6.12", deadline, suite="bookworm-backports")], tmp_path / "deb", deadline
    )
    tarball = tmp_path / "deb/usr/src/linux-source-6.12.tar.xz"
    subprocess.run(["tar", "-I", "xz -dT0", "-xf", tarball, "-C", tmp_path], check=True)
    tree, fragment = tmp_path / "linux-source-6.12", tmp_path / "small.config"
    subprocess.run(["make", "-s", "-C", tree, f"O={tmp_path / 'tiny'}", "tinyconfig"], check=True)
    (tmp_path / "tiny/.config").rename(tree / ".config")
    fragment.write_text("CONFIG_64BIT=y\nCONFIG_PRINTK=y\nCONFIG_MODULES=y\nCONFIG_CRC7=m\n")

    kernel = resolve(f"tree:{tree}", BuildOptions(config_fragments=(str(fragment),)), deadline)
    assert read_release(kernel.image) == kernel.release
    assert kernel.release.startswith("6.12.")
    assert kernel.modules is not None
    assert "crc7.ko" in (kernel.modules / "modules.dep").read_text()

    fragment.write_text("CONFIG_64BIT=y\nCONFIG_KVM=y\n")
    with pytest.raises(UsageError, match="CONFIG_KVM") as caught:
        resolve(f"tree:{tree}", BuildOptions(config_fragments=(str(fragment),)), deadline)
    assert "VIRTUALIZATION=n" in caught.value.evidence
