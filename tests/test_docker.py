"""The Dockerfile: read, and (slow) built and run in an unpacked Debian 13, with no container engine needed."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import pytest

from harness import debian, process
from harness.deadline import Deadline
from harness.errors import Exit
from harness.machine import toolchain
from harness.paths import PROJECT
from tests.dockerfile import Image, Instruction, ignored, parse, patterns

DOCKERFILE = PROJECT / "Dockerfile"
SETUP = PROJECT / "scripts" / "setup"
IGNORED = patterns(PROJECT / ".dockerignore")

_BUILD_S = 1500.0  # measured: 2 min on two cores with a near mirror
_RUN_S = 600.0


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(_RUN_S, "a run in the image")


def instructions(name: str) -> list[Instruction]:
    return [one for one in parse(DOCKERFILE.read_text()) if one.name == name]


# --- as it is written -----------------------------------------------------------------------------------------


def test_instructions_go_on_after_a_backslash_and_comments_are_none() -> None:
    assert parse('# a\nFROM x\nRUN a && \\\n  b\nCMD ["c", "d"]\n') == [
        Instruction("FROM", "x", 2),
        Instruction("RUN", "a && b", 3),
        Instruction("CMD", '["c", "d"]', 5),
    ]
    assert parse('CMD ["c", "d"]')[0].words == ["c", "d"]


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        (".venv/bin/python", True),
        ("runs/one/console.log", True),
        ("harness/cli/__pycache__/run.pyc", True),
        ("virt_ordering_harness.egg-info/PKG-INFO", True),
        ("harness/run/job.py", False),  # a folder of that name below the first level
        ("tests/recorded/x/run.json", False),
    ],
)
def test_what_the_context_leaves_out(path: str, left_out: bool) -> None:
    assert ignored(PurePath(path), IGNORED) is left_out


def test_what_git_ignores_is_no_part_of_the_context() -> None:
    for pattern in (PROJECT / ".gitignore").read_text().split():
        example = pattern.rstrip("/").replace("*", "x")
        assert ignored(PurePath(example), IGNORED), pattern


def test_packages_are_installed_by_the_script_of_make_setup_alone() -> None:
    runs = " && ".join(one.arguments for one in instructions("RUN"))
    assert re.findall(r"scripts/setup[ \w=,-]*", runs) == [
        "scripts/setup --packages --qemu ",
        "scripts/setup --extras=lab,lore,postmortem ",
    ]
    assert not re.search(r"apt-get|\bpip\b", runs)


def test_the_script_installs_the_qemu_that_the_harness_looks_for() -> None:
    words = re.search(r'^QEMU_PACKAGES="(.*)"$', SETUP.read_text(), re.MULTILINE)
    suite = re.search(r"^QEMU_SUITE=(.*)$", SETUP.read_text(), re.MULTILINE)
    assert words and tuple(words[1].split()) == toolchain._PACKAGES
    assert suite and suite[1] == toolchain._SUITE
    assert f"KEYRING={debian.KEYRING}\n" in SETUP.read_text()


def test_an_unknown_argument_of_the_script_is_a_usage_error(deadline: Deadline) -> None:
    with pytest.raises(process.ProcessFailed) as caught:
        process.run([SETUP, "--docker"], deadline)
    assert caught.value.returncode == Exit.USAGE
    assert "--qemu" in caught.value.output


def test_volumes_are_where_the_harness_writes() -> None:
    environment = dict(word.split("=", 1) for one in instructions("ENV") for word in one.words)
    (volumes,) = instructions("VOLUME")
    assert [environment["XDG_CACHE_HOME"], environment["HARNESS_RUNS"]] == volumes.words


def test_it_does_not_run_as_root() -> None:
    order = [one.name for one in parse(DOCKERFILE.read_text())]
    assert "USER" in order and "RUN" not in order[order.index("USER") :]
    assert instructions("USER")[-1].arguments == "harness"


# --- as it works ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Container:
    """The built image, and how its processes reach Debian's archive from here."""

    image: Image
    environment: Mapping[str, str]

    def harness(self, *words: str) -> str:
        return self.image.run(words, Deadline.after(_RUN_S, "a run in the image"), self.environment)

    def read(self, path: str) -> str:
        return (self.image.root / path.lstrip("/")).read_text()


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        pytest.skip("unpacking a root and changing into it takes root and mmdebstrap")
    deadline = Deadline.after(_BUILD_S, "building the image")
    root = tmp_path_factory.mktemp("image") / "root"
    (base,) = instructions("FROM")
    assert base.arguments == "debian:trixie"
    argv: list[str | Path] = [
        "mmdebstrap",
        "--variant=minbase",
        f"--keyring={debian.KEYRING}",
        "trixie",
        root,
        debian.mirror(),
    ]
    process.run(argv, deadline)
    _connect(root, deadline)
    image = Image(root, PROJECT, _context(deadline))
    image.arguments |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    image.build(parse(DOCKERFILE.read_text()), deadline)
    yield Container(image, {"HARNESS_DEBIAN_MIRROR": debian.mirror(), "HOME": "/home/harness"})
    shutil.rmtree(root.parent)  # 1.7 GB


def _connect(root: Path, deadline: Deadline) -> None:
    """The network as this host has it: an engine does the former two, who has a proxy or a CA his base image."""
    for name in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc", name), root / "etc" / name)
    settings = debian.host_network_settings(deadline)
    (root / "etc/apt/apt.conf.d/90network").write_text(settings)
    authorities = Path("usr/local/share/ca-certificates")
    if Path("/", authorities).is_dir():
        shutil.copytree(Path("/", authorities), root / authorities, dirs_exist_ok=True)


def _context(deadline: Deadline) -> list[PurePath]:
    """What a clean clone has, as far as .dockerignore leaves it."""
    listed = process.run(["git", "-C", PROJECT, "ls-files"], deadline).splitlines()
    return [path for path in map(PurePath, listed) if not ignored(path, IGNORED)]


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.boot
@pytest.mark.timeout(2400)
def test_the_image_is_built_and_works_without_root(container: Container) -> None:
    """One test: whatever is asked of the image, it is built first."""
    container.harness("doctor", "--engine", "tcg-svm", "--json", "/runs/doctor.json")
    report = json.loads(container.read("/runs/doctor.json"))
    assert report["usable"]
    (qemu,) = [check for check in report["checks"] if check["name"] == "QEMU"]
    assert "the system's /usr/bin/qemu-system-x86_64" in qemu["found"]

    for engine in ("tcg-svm", "tcg-vmx"):
        json_file = f"/runs/{engine}.json"
        words = ("--kernel", "debian:6.12", "--engine", engine, "--json", json_file)
        container.harness("run", "scenarios/load-unload.yaml", *words)
        (run,) = json.loads(container.read(json_file))
        assert {claim["verdict"] for claim in run["claims"]} == {"confirmed"}
    assert (container.image.root / "cache/virt-ordering-harness").stat().st_uid == 1000
