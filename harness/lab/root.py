"""The lab's root file system: Debian, its QEMU, and the Python packages that the harness needs.

mmdebstrap makes it, without root where the user has subordinate ids (man mmdebstrap, MODES). The harness itself is
not in it: the lab sees the project's folder as it is.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from harness import process, progress
from harness.cache import disk_full_is_a_host_fault, locked, staged_dir
from harness.deadline import Deadline
from harness.debian import mirror
from harness.errors import HostFault
from harness.lab.recipe import RootRecipe, load_root_recipe
from harness.paths import PROJECT, cache_dir
from harness.process import ProcessFailed, run

_FORMAT = 1  # counts up when this module puts other things into the root
_PYTHON = {"trixie": "3.13"}  # of the suite: which wheels fit
_PACKAGES = "usr/local/lib/python{python}/dist-packages"

# What makes it and its scratch disk, and the Debian packages that have that.
TOOLS = {"mmdebstrap": "mmdebstrap", "genext2fs": "genext2fs", "mke2fs": "e2fsprogs"}


def root_image(deadline: Deadline) -> Path:
    """An ext2 image of the root, from the cache when it is there; not to be written to.

    Raises HostFault when a tool is not installed, or packages cannot be had.
    """
    recipe = load_root_recipe()
    requirements = python_requirements()
    folder = cache_dir() / "images" / f"lab-{_key(recipe, requirements)}"
    if not folder.exists():
        require_tools("mmdebstrap", "genext2fs")
        with locked(folder.with_suffix(".lock"), deadline):
            if not folder.exists():
                with progress.task("build the lab's root: Debian, QEMU and Python"), staged_dir(folder) as stage:
                    _build(recipe, requirements, stage, deadline)
    return folder / "root.ext2"


def require_tools(*programs: str) -> None:
    """Raises HostFault naming the first of some TOOLS that is not installed."""
    for program in programs:
        if shutil.which(program, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") is None:
            raise HostFault(
                f"{program} is not installed, which the lab is made with", hint=f"apt-get install {TOOLS[program]}"
            )


def python_requirements() -> tuple[str, ...]:
    """What the harness itself needs, without its extras, as pip takes it."""
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    return tuple(sorted(str(Requirement(line)) for line in declared))


def _key(recipe: RootRecipe, requirements: Sequence[str]) -> str:
    digest = hashlib.sha256()
    digest.update(json.dumps([_FORMAT, recipe.model_dump(mode="json", exclude={"path"}), *requirements]).encode())
    for file in recipe.files.values():
        digest.update(recipe.source(file.source).read_bytes())
    return digest.hexdigest()[:16]


def _build(recipe: RootRecipe, requirements: Sequence[str], stage: Path, deadline: Deadline) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="harness-lab.") as name,
        disk_full_is_a_host_fault(stage),
    ):
        scratch = Path(name)
        python = _PYTHON[recipe.suite]
        _install_python_packages(requirements, python, scratch / "packages", deadline)
        (scratch / "preferences").write_text(preferences(recipe))
        _lay_out(recipe, scratch / "files")
        run(mmdebstrap(recipe, python, scratch, stage / "root.ext2"), deadline, log=stage / "mmdebstrap.log")


def _install_python_packages(requirements: Sequence[str], python: str, target: Path, deadline: Deadline) -> None:
    """Wheels for the lab's Python, by the host's pip and from where the host gets its own."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    only = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    try:
        run([*pip, *only, f"--target={target}", *requirements], deadline)
    except ProcessFailed as error:
        raise HostFault(
            "the Python packages of the lab cannot be had",
            expected=f"wheels for Python {python} of {', '.join(requirements)}",
            hint="does `pip download` work on this host?",
            evidence=process.tail(error.output),
        ) from error


def preferences(recipe: RootRecipe) -> str:
    """An apt_preferences(5) file by which only the recipe's backports come from there."""
    sources = " ".join(f"src:{name}" for name in recipe.backports)
    return f"Package: {sources}\nPin: release n={recipe.suite}-backports\nPin-Priority: 990\n"


def _lay_out(recipe: RootRecipe, target: Path) -> None:
    for path, file in recipe.files.items():
        place = target / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(recipe.source(file.source), place)
        place.chmod(file.mode)


def mmdebstrap(recipe: RootRecipe, python: str, scratch: Path, image: Path) -> list[str]:
    """The command that makes `image`; `scratch` has `packages`, `preferences` and `files`."""
    options = ["--variant=minbase", "--format=ext2", *_options(recipe, python, scratch)]
    sources = [f"deb {mirror()} {suite} main" for suite in (recipe.suite, f"{recipe.suite}-backports")]
    return ["mmdebstrap", *options, recipe.suite, str(image), *sources]


def _options(recipe: RootRecipe, python: str, scratch: Path) -> Iterator[str]:
    packages = _PACKAGES.format(python=python)
    yield f"--include={','.join(recipe.packages)}"
    # apt's own user could not look into a private temporary folder.
    for option in ('APT::Sandbox::User "root"', 'Acquire::Languages "none"', 'APT::Install-Recommends "false"'):
        yield f"--aptopt={option}"
    yield "--dpkgopt=force-unsafe-io"  # what is half written when the host dies is thrown away anyway
    yield from (f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.without)
    yield f'--setup-hook=cp {_quoted(scratch / "preferences")} "$1/etc/apt/preferences.d/backports"'
    yield f'--customize-hook=mkdir -p "$1/{packages}"'
    yield f"--customize-hook=sync-in {_quoted(scratch / 'packages')} /{packages}"
    yield f"--customize-hook=sync-in {_quoted(scratch / 'files')} /"
    # Compiling under emulation would cost the first command 10 s.
    yield f'--customize-hook=chroot "$1" python3 -m compileall -q /usr/lib/python3 /{packages} >/dev/null || true'


def _quoted(path: Path) -> str:
    """For a hook: mmdebstrap takes its own ones apart as a shell does."""
    return shlex.quote(str(path))
