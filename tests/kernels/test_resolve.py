"""The way from a spec to a kernel: wrong specs, the cache, its corruption, and runs in parallel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import HostFault, UsageError
from harness.kernels import BuildOptions, kernels_in_cache, remove, resolve
from harness.kernels.resolve import SOURCES
from harness.kernels.store import CorruptEntry, Entry
from harness.paths import PROJECT
from tests.kernels.trees import make_tree


@pytest.fixture
def spec(tmp_path: Path, cache: Path) -> str:
    return f"tree:{make_tree(tmp_path / 'linux')}"


@pytest.mark.parametrize("spec", ["6.12", "debian:", "deb:6.12", "", ":", "tree"])
def test_unknown_source_names_the_known_ones(cache: Path, deadline: Deadline, spec: str) -> None:
    with pytest.raises(UsageError, match="unknown kernel source") as caught:
        resolve(spec, BuildOptions(), deadline)
    assert all(f"{scheme}:" in caught.value.expected for scheme in SOURCES)


def test_every_source_is_documented() -> None:
    text = (PROJECT / "docs/kernels.md").read_text()
    assert [scheme for scheme in SOURCES if f"### `{scheme}:" not in text] == []


def test_unknown_module_set(spec: str, deadline: Deadline) -> None:
    with pytest.raises(UsageError, match="unknown module set 'vfio'") as caught:
        resolve(spec, BuildOptions(modules_only="vfio"), deadline)
    assert caught.value.expected == "kvm"


def test_wrong_options_are_noticed_before_anything_is_fetched(cache: Path, deadline: Deadline) -> None:
    missing = BuildOptions(patches=(Path("/nonexistent.patch"),), modules_only="kvm")
    with pytest.raises(UsageError, match="cannot be read"):
        resolve("debian:6.12", missing, deadline)


def test_no_network_and_empty_cache_is_a_host_fault(cache: Path, deadline: Deadline) -> None:
    with pytest.raises(HostFault, match=r"http://127\.0\.0\.1:9"):
        resolve("debian:6.12", BuildOptions(), deadline)


@pytest.mark.parametrize("damage", ["unlink", "truncate", "meta"])
def test_corrupt_entry_is_said_and_rebuilt(
    spec: str, deadline: Deadline, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = resolve(spec, BuildOptions(), deadline)
    meta = kernel.image.parent / "meta.json"
    match damage:
        case "unlink":
            kernel.image.unlink()
        case "truncate":
            kernel.image.write_text("short")
        case "meta":
            meta.write_text(meta.read_text()[:100])
    [listed] = kernels_in_cache()
    assert isinstance(listed, CorruptEntry)
    again = resolve(spec, BuildOptions(), deadline)
    assert again.image.read_text() == "valid: one\n"
    assert "is corrupt and is made anew" in capsys.readouterr().err
    [listed] = kernels_in_cache()
    assert isinstance(listed, Entry)


def test_parallel_runs_build_once(tmp_path: Path, cache: Path) -> None:
    tree = make_tree(tmp_path / "slow", seconds_to_build=1)
    argv = [sys.executable, "-c", _RESOLVE, f"tree:{tree}"]
    children = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    keys = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert keys[0] == keys[1] != ""
    [builds] = cache.glob("trees/*/objects/builds")
    assert builds.read_text() == "built\n"


_RESOLVE = """
import sys
from harness.deadline import Deadline
from harness.kernels import BuildOptions, resolve
print(resolve(sys.argv[1], BuildOptions(), Deadline.after(50, "build")).key)
"""


def test_full_disk_is_a_host_fault_and_leaves_nothing(tmp_path: Path) -> None:
    """A real file system of 1 MB, in a mount namespace of its own."""
    tree = make_tree(tmp_path / "linux")
    (tree / "init/main.c").write_text("valid\n" + "x" * 3_000_000)
    small = tmp_path / "small"
    small.mkdir()
    script = f'mount -t tmpfs -o size=1m none {small} && "$@"; echo exit $?; find {small}/kernels -name meta.json'
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).stdout != b"exit 0\n":
        pytest.skip("this host does not let a user make a mount namespace")
    result = subprocess.run(
        [*inside, sys.executable, "-c", _RESOLVE, f"tree:{tree}"],
        env={"HARNESS_CACHE": str(small), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"DiskFull: the disk is full: {small}" in result.stderr
    assert result.stdout == "exit 1\n"


def test_remove_by_spec_and_by_key(spec: str, deadline: Deadline) -> None:
    first = resolve(spec, BuildOptions(), deadline)
    assert remove(spec, deadline) == [first.key]
    assert kernels_in_cache() == []
    again = resolve(spec, BuildOptions(), deadline)
    assert remove(again.key[:6], deadline) == [again.key]


def test_remove_what_is_not_there(spec: str, deadline: Deadline) -> None:
    with pytest.raises(UsageError, match=r"no kernel 'debian:2\.6'"):
        remove("debian:2.6", deadline)
