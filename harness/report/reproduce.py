"""How to do a run again: from its folder, the command line of the harness and that of QEMU."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.judge.record import RunRecord

_MUTANTS = "patches/mutants/"


def command(record: RunRecord, scenario: str = "") -> list[str]:
    """The words of the command that does `record` again with a scenario file (its own folder's when not named)."""
    kernel, options = _kernel(record.kernel)
    words = ["harness", "run", scenario or str(record.folder / "scenario.yaml"), "--kernel", kernel]
    words += ["--engine", record.engine, *options]
    if any(hold.holder == "gdbstub" for hold in record.holds):
        words += ["--holds", "gdbstub"]
    return words


def command_line(words: Sequence[str]) -> str:
    """The words as one line for a shell."""
    return shlex.join(words)


def _kernel(kernel: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What `--kernel` takes, and the options that say what was done to it.

    The project's mutants are part of the name; other patches are files of whoever ran it.
    """
    provenance = kernel.get("provenance") or {}
    patches = [str(patch["file"]) for patch in provenance.get("patches") or ()]
    options = [word for name in _fragments(provenance) for word in ("--config", name)]
    if all(_MUTANTS in patch for patch in patches):
        return " +".join([str(kernel["spec"]), *(Path(patch).stem for patch in patches)]), options
    options += [word for patch in patches for word in ("--patch", patch)]
    if modules := provenance.get("modules_only"):
        options += ["--modules-only", str(modules)]
    return str(kernel["spec"]), options


def _fragments(provenance: Mapping[str, Any]) -> list[str]:
    """The fragments that were asked for beside those that the kernel's spec stands for: debian-source:7.3+tdx."""
    own = provenance.get("config")
    return [
        str(fragment["name"])
        for fragment in provenance.get("config_fragments") or ()
        if not isinstance(own, list) or fragment["sha256"] not in own
    ]


def qemu_script(folder: Path) -> str:
    """The exact QEMU command of a run, with the reason of each group of options; "" for one that was not kept."""
    path = folder / "qemu.sh"
    return path.read_text(errors="replace") if path.exists() else ""


def qemu_version(folder: Path) -> str:
    """The version of QEMU that a run had."""
    return str(json.loads((folder / "run.json").read_text()).get("qemu") or "of unknown version")
