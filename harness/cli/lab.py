"""`harness lab`: a host with nested virtualization where there is none."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from harness import progress
from harness.cli import options
from harness.cli.run import run as run_here
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.lab import lab as labs
from harness.lab.keeper import LiveLab

_PATIENCE_S = 2400.0  # Debian, QEMU and a kernel to fetch on a slow line


@click.group()
def lab() -> None:
    """A host with KVM and nested virtualization, emulated: for engine kvm where the hardware is not.

    It is a Debian under QEMU's TCG, which emulates SVM well enough that kvm_amd runs guests there. What is confirmed
    in it is confirmed for engine kvm; a run's folder says that its host was emulated. It takes 4 GiB of memory.

    \b
    harness lab run scenarios/load-unload.yaml     one run; the lab is started and ended around it
    harness lab up; harness lab run …; harness lab down
    harness lab shell
    """


@lab.command()
@options.quiet
def up() -> int:
    """Start the lab, and leave it running."""
    running = labs.up(_deadline())
    progress.note(f"the lab is up, in {running.boot_s} s; `harness lab down` ends it")
    return 0


@lab.command()
def down() -> int:
    """End the lab. What was written in it is gone; the folders of runs are the host's, and stay."""
    if not labs.down():
        progress.note("there was no lab")
    return 0


@lab.command()
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@options.quiet
def shell(command: tuple[str, ...]) -> int:
    """A shell in the lab, as root; or one command: harness lab shell -- dmesg."""
    with labs.at_hand(_deadline(), any_runs=True) as running:
        return labs.command(running, " ".join(command), terminal=sys.stdin.isatty())


@lab.command()
def status() -> int:
    """Whether there is a lab, and how to log in."""
    running = LiveLab.read(labs.lab_folder())
    if running is None:
        print("there is no lab")
        return 0
    since = time.strftime("%H:%M:%S", time.localtime(running.since))
    print(f"up since {since}, process {running.pid}, runs in {running.runs}")
    print(shlex.join(running.ssh))
    return 0


@lab.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Everything after `run` is for `harness run` in the lab, with `--engine kvm` unless another one is named.",
)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[OPTIONS] SCENARIO…")
def run(words: tuple[str, ...]) -> int:
    """Run scenarios in the lab, with engine kvm.

    Takes what `harness run` takes. Files that are written without a folder are in the folder of runs afterwards.

    \b
    harness lab run scenarios/load-unload.yaml --kernel debian:6.12
    """
    if kept := {"--keep", "--pause-on"} & _options(words):
        raise UsageError(
            f"{kept.pop()}: a guest of the lab cannot be kept",
            expected="a run that comes to its end: how to get at its guest is known in the lab alone",
        )
    return _harness("run", [*([] if "--engine" in _options(words) else ["--engine", "kvm"]), *words])


@lab.command()
def doctor() -> int:
    """What the lab can do: `harness doctor` for engine kvm, there."""
    return _harness("doctor", ["--engine", "kvm"])


def _harness(name: str, words: Sequence[str]) -> int:
    with labs.at_hand(_deadline(), any_runs=name != "run") as running:
        pairs = zip(("", *words), words, strict=False)
        return labs.harness(running, [name, *(_absolute(word, before, running) for before, word in pairs)])


def _options(words: Sequence[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}


# What `run` writes: --json, --junit and so on. Without a folder, that is in the folder of runs.
_WRITTEN = {option for param in run_here.params if str(param.name).endswith("_file") for option in param.opts}
_VALUED = {
    option
    for param in run_here.params
    if isinstance(param, click.Option) and not param.is_flag
    for option in param.opts
}


def _absolute(word: str, before: str, running: LiveLab) -> str:
    """A word of the command line as the lab understands it: a file, or a place for one, by its absolute path.

    `before` is the word before it, of which it may be the value.
    """
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    path = Path(value)
    if "/" in value:
        there = path.parent.is_dir()
    elif not option and before not in _VALUED:
        there = path.exists()
    else:
        there = path.suffix != "" and path.exists() and (option or before) not in _WRITTEN
    return f"{option}{equals}{labs.visible(path, running)}" if there else word


def _deadline() -> Deadline:
    return Deadline.after(_PATIENCE_S, "the lab")
