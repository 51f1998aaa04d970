"""The options that write results for other programs: --json, --junit, --ktap, --kcidb."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from harness.errors import HarnessError, UsageError
from harness.output import STDOUT, require_writable, write_output
from harness.report.batch import DEFAULT_ORIGIN, Batch
from harness.report.formats import FORMATS, Format
from harness.report.kcidb import parse_origin
from harness.report.result import NotRun, RunResult

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Outputs:
    """Which formats go where; every file was found to be writable."""

    files: Mapping[str, str] = field(default_factory=dict)  # format -> path, or "-"
    origin: str = DEFAULT_ORIGIN

    @property
    def use_stdout(self) -> bool:
        """Whether stdout is taken; a table there would be in the way."""
        return STDOUT in self.files.values()

    def write(self, results: Sequence[RunResult], not_run: Sequence[NotRun] = ()) -> None:
        """Writes them all, also when one fails; then raises what that one raised."""
        batch = Batch(results, not_run, self.origin)
        failed: list[HarnessError] = []
        for name, target in self.files.items():
            try:
                write_output(target, FORMATS[name].render(batch))
            except HarnessError as error:
                failed.append(error)
        if failed:
            raise failed[0]


def outputs(command: Command) -> Command:
    """Adds the options to a command, which takes them as one parameter `outputs`. Wrong ones raise UsageError."""
    return _with(FORMATS, command)


def other_outputs(command: Command) -> Command:
    """The same without --json, for a command that has a document of its own."""
    return _with({name: format for name, format in FORMATS.items() if name != "json"}, command)


def _with(formats: dict[str, Format], command: Command) -> Command:
    @functools.wraps(command)
    def with_outputs(*args: Any, **values: Any) -> Any:
        files = {name: target for name in formats if (target := values.pop(f"{name}_file"))}
        return command(*args, outputs=_checked(files, values.pop("kcidb_origin")), **values)

    decorated = click.option(
        "--kcidb-origin", default=DEFAULT_ORIGIN, show_default=True, metavar="NAME", help="The CI system, in --kcidb."
    )(with_outputs)
    for name, format in reversed(formats.items()):
        about = f'Write {format.about} ("-": stdout).'
        decorated = click.option(f"--{name}", f"{name}_file", metavar="FILE", help=about)(decorated)
    return decorated  # type: ignore[return-value]  # click's decorators give back what they get


def _checked(files: Mapping[str, str], origin: str) -> Outputs:
    by_place: dict[str, str] = {}
    for name, target in files.items():
        require_writable(target)
        place = target if target == STDOUT else str(Path(target).resolve())
        if place in by_place:
            raise UsageError(f"--{by_place[place]} and --{name} cannot both go to {target}")
        by_place[place] = name
    return Outputs(files, parse_origin(origin))
