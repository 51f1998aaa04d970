"""Scenarios to begin with: each loads, runs and is confirmed as it is, and its comments say what to change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import yaml

from harness.errors import UsageError
from harness.scenario.faults import closest
from harness.scenario.kinds import parse_id
from harness.scenario.load import build_scenario
from harness.scenario.yaml_file import parse_yaml, read_yaml

_FOLDER = Path(__file__).with_name("templates")
_MODELINE = "# yaml-language-server: $schema="

KINDS: Mapping[str, str] = {
    "load": "load the module, open a VM, unload",
    "hotplug": "a CPU goes offline and comes back",
    "suspend": "the machine sleeps and wakes up",
    "reboot": "reboot -f with a VM open, and the next boot",
    "race": "two actors at once, one held at a point",
}


def from_template(kind: str, target: Path, title: str, kernels: Sequence[str], schema: Path) -> str:
    """The text of a new scenario `target`. Raises UsageError for an unknown kind, or a name that is no id."""
    if kind not in KINDS:
        raise UsageError(f"there is no template {kind!r}", hint=closest(kind, KINDS))
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    text = environment.from_string((_FOLDER / f"{kind}.yaml").read_text()).render(
        file=target, name=_id(target), title=_yaml(title or KINDS[kind]), kernels=_list(kernels), schema=schema
    )
    return _loadable(text, target)


def from_scenario(source: Path, target: Path, title: str, kernels: Sequence[str], schema: Path) -> str:
    """The same out of another scenario, with its comments. Raises UsageError, also where that one is no scenario."""
    _id(target)
    build_scenario(read_yaml(source))
    lines = [line for line in source.read_text().splitlines() if not line.startswith(_MODELINE)]
    text = "\n".join([f"{_MODELINE}{schema}", *lines, ""])
    if title:
        text = _replaced(text, "title", f"title: {_yaml(title)}\n")
    if kernels:
        text = _replaced(text, "kernels", f"kernels:\n{_list(kernels)}\n")
    return _loadable(text, target)


def _replaced(text: str, key: str, line: str) -> str:
    """With another value of a top-level key, which ends where the next one or a comment begins."""
    return re.sub(rf"^{key}:.*\n(?:(?:[ -].*)?\n)*?(?=[^\s-])", lambda _: line, text, count=1, flags=re.MULTILINE)


def _loadable(text: str, target: Path) -> str:
    """`text`, which loads as the scenario `target`. Raises ScenarioError with the line of what does not."""
    build_scenario(parse_yaml(target, text))
    return text


def _id(target: Path) -> str:
    try:
        return str(parse_id(target.stem))
    except ValueError as error:
        raise UsageError(f"{target}: {error}") from error


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"  - {_yaml(item)}" for item in items)


def _yaml(text: str) -> str:
    """On one line; quoted where it must be."""
    return str(yaml.safe_dump(" ".join(text.split()), width=10_000, allow_unicode=True)).splitlines()[0]
