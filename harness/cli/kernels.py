"""`harness kernels`: what is in the cache, and getting more into it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from harness.cli import options
from harness.deadline import Deadline
from harness.kernels import BuildOptions, Kernel, kernels_in_cache, remove, resolve
from harness.kernels.store import CorruptEntry, Entry
from harness.report.result import write_json

_FETCH_S = 1800.0  # per kernel: a slow line has 120 MB to carry
_BUILD_S = 3 * 3600.0  # per kernel: a distribution's configuration on a small machine
_REMOVE_S = 60.0  # for another run to let go of it


@click.group()
def kernels() -> None:
    """Fetch, build, list and remove kernels.

    \b
    A SPEC is one of
      debian:6.12            the newest 6.12 of Debian 12, its backports or Debian 13
      debian:6.12.107-1      exactly that package version
      debian:sid             the newest of a suite
      debian-source:7.3+tdx  Debian's source built here, with fragments of kconfigs/
      tree:PATH              a source tree, built here; it is only read
      git:PATH@REVISION      a commit, tag or branch of a repository
      image:BZIMAGE+MODULES  a kernel that you built, with its lib/modules/RELEASE
    docs/kernels.md has all of them with examples.
    """


@kernels.command("list")
@options.json_file
def list_(json_file: str | None) -> int:
    """Show the kernels in the cache, newest first."""
    entries = kernels_in_cache()
    if json_file != "-":
        Console().print(_entries_table(entries))
    if json_file:
        write_json(json_file, [_entry_json(entry) for entry in entries])
    return 0


@kernels.command()
@click.argument("specs", nargs=-1, required=True, metavar="SPEC…")
@click.option("--update", is_flag=True, help="Look for newer packages; otherwise debian:6.12 stays what it was.")
@options.json_file
def fetch(specs: tuple[str, ...], update: bool, json_file: str | None) -> int:
    """Bring kernels into the cache.

    \b
    harness kernels fetch debian:6.1 debian:6.12 debian:7.3
    harness kernels fetch debian:sid --update
    """
    fetched = []
    for spec in specs:
        deadline = Deadline.after(_FETCH_S, f"fetching {spec}")
        fetched.append(resolve(spec, BuildOptions(), deadline, update=update))
    _show(fetched, json_file)
    return 0


@kernels.command()
@click.argument("spec")
@options.patches
@options.fragments
@options.modules_only
@options.json_file
def build(
    spec: str, patches: tuple[Path, ...], fragments: tuple[str, ...], modules_only: str, json_file: str | None
) -> int:
    """Build a kernel with patches and options, or only its KVM modules.

    \b
    harness kernels build debian:6.12 --modules-only kvm --patch fix.patch
    harness kernels build debian-source:7.3+tdx --patch fix.patch
    harness kernels build tree:~/linux --config harness --config kvm
    harness kernels build git:~/linux@v6.18 --config harness --patch series.mbox
    """
    deadline = Deadline.after(_BUILD_S, f"building {spec}")
    _show([resolve(spec, BuildOptions(patches, fragments, modules_only), deadline)], json_file)
    return 0


@kernels.command()
@click.argument("names", nargs=-1, required=True, metavar="SPEC|KEY…")
@options.json_file
def rm(names: tuple[str, ...], json_file: str | None) -> int:
    """Remove kernels by spec, release, or the first 4 or more digits of their key.

    A debian: kernel takes along what is kept to rebuild its modules.
    """
    deadline = Deadline.after(_REMOVE_S, "removing kernels")
    removed = [key for name in names for key in remove(name, deadline)]
    if json_file != "-":
        click.echo(f"removed {', '.join(removed)}")
    if json_file:
        write_json(json_file, removed)
    return 0


def _show(kernels: Iterable[Kernel], json_file: str | None) -> None:
    if json_file != "-":
        table = Table("key", "spec", "release", "from", box=None, pad_edge=False)
        table.columns[0].no_wrap = True
        for kernel in kernels:
            table.add_row(kernel.key, kernel.spec, kernel.release, _origin(kernel.provenance))
        Console().print(table)
    if json_file:
        write_json(json_file, [_kernel_json(kernel) for kernel in kernels])


def _kernel_json(kernel: Kernel) -> dict[str, object]:
    return {
        "spec": kernel.spec,
        "release": kernel.release,
        "key": kernel.key,
        "image": str(kernel.image),
        "modules": str(kernel.modules) if kernel.modules else None,
        "overlay": {name: str(path) for name, path in kernel.overlay.items()},
        "provenance": dict(kernel.provenance),
    }


def _entries_table(entries: Iterable[Entry | CorruptEntry]) -> Table:
    table = Table("key", "spec", "release", "what", "MB", "made", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    table.columns[4].justify = "right"
    for entry in entries:
        if isinstance(entry, CorruptEntry):
            table.add_row(entry.key, "", "", f"corrupt, made anew when needed: {entry}")
        else:
            made = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created))
            megabytes = f"{entry.bytes / 1e6:.0f}"
            table.add_row(entry.key, entry.spec, entry.parts.release, _describe(entry), megabytes, made)
    return table


def _origin(provenance: Mapping[str, object]) -> str:
    """The version that a person would quote: of the package, the commit, or the tree."""
    packages = provenance.get("packages")
    if isinstance(packages, list):
        return f"{packages[0]['version']} ({packages[0]['suite']})"
    return str(provenance.get("commit") or provenance.get("tree") or provenance["image"])[:12]


def _describe(entry: Entry) -> str:
    """What was done to it, in a few words: "kvm modules, 2 patches"."""
    provenance = entry.parts.provenance
    words = ["kvm modules"] if entry.parts.base else []
    patches = provenance.get("patches")
    if isinstance(patches, list) and patches:
        words += [Path(patches[0]["file"]).name if len(patches) == 1 else f"{len(patches)} patches"]
    fragments = provenance.get("config_fragments")
    if isinstance(fragments, list):
        words += [fragment["name"] for fragment in fragments]
    return ", ".join(words) or "stock"


def _entry_json(entry: Entry | CorruptEntry) -> dict[str, object]:
    if isinstance(entry, CorruptEntry):
        return {"key": entry.key, "corrupt": str(entry)}
    return {
        "key": entry.key,
        "spec": entry.spec,
        "release": entry.parts.release,
        "bytes": entry.bytes,
        "created": entry.created,
        "path": str(entry.path),
        "provenance": dict(entry.parts.provenance),
    }
