"""YAML to plain data that remembers its lines.

YAML 1.2's core schema, not PyYAML's 1.1: `on`, `off`, `yes` and `no` are text, since a scenario
says `virt: {at: loaded, on: all}`. Numbers with a dot are text too: a kernel 6.10 must not turn
into 6.1. Aliases are refused altogether: nothing in a scenario needs them, and a few hundred bytes
of them can expand to gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import ScenarioError, UsageError

_MAX_BYTES = 1 << 20  # the longest scenario so far is under 10 kB
_MAX_DEPTH = 20  # a scenario needs 5; PyYAML takes seconds over a thousand

Location = tuple[str | int, ...]


class _CoreLoader(yaml.CSafeLoader):
    """CSafeLoader with the scalar rules of YAML 1.2's core schema (section 10.3.2).

    The parser in Python takes 0.1 s over a scenario of 7 kB, of which an exploration loads hundreds.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012  # the base class declares it so


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?(?:0o[0-7]+|0x[0-9a-fA-F]+|[0-9]+)$", "-+0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


@dataclass(frozen=True)
class Document:
    """A YAML file: `data` as plain Python, and the line (from 1) of every value in it."""

    path: Path
    data: Any
    lines: Mapping[Location, int]

    def line(self, location: Location) -> int:
        """The line of `location`, or of the nearest thing around it that the file does have."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def error(self, location: Location, what: str, hint: str = "") -> ScenarioError:
        """The error to raise for what stands at `location`."""
        return ScenarioError(self.path, self.line(location), what, hint=hint)


def read_yaml(path: Path) -> Document:
    """Reads one YAML document. Raises ScenarioError (with the line) or UsageError (no such file)."""
    return parse_yaml(path, _read_text(path))


def parse_yaml(path: Path, text: str) -> Document:
    """The same for a text that is already there; `path` only names it in messages."""
    try:
        _refuse_bombs(path, text)
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ScenarioError(path, _line(mark), f"not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ScenarioError(path, 1, f"not YAML: {error}") from error
    if root is None:
        raise ScenarioError(path, 1, "the file is empty")
    lines: dict[Location, int] = {}
    return Document(path, _construct(path, root, (), lines), lines)


def _refuse_bombs(path: Path, text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_CoreLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ScenarioError(
                path,
                _line(event.start_mark),
                f"YAML alias *{event.anchor} is not allowed",
                hint="write the value out; aliases can expand without bound",
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ScenarioError(path, _line(event.start_mark), f"nested more than {_MAX_DEPTH} deep")


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path} is larger than {_MAX_BYTES} bytes: not a scenario")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _line(mark: Any) -> int:
    return mark.line + 1 if mark is not None else 1


def _construct(path: Path, node: yaml.Node, location: Location, lines: dict[Location, int]) -> Any:
    lines[location] = _line(node.start_mark)
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(path, node, location, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(path, item, (*location, index), lines) for index, item in enumerate(node.value)]
    return _scalar(path, node)


def _construct_mapping(path: Path, node: yaml.MappingNode, location: Location, lines: dict[Location, int]) -> Any:
    mapping: dict[Hashable, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else None
        if key is None:
            raise ScenarioError(path, _line(key_node.start_mark), "a key must be plain text")
        if key in mapping:
            raise ScenarioError(path, _line(key_node.start_mark), f"duplicate key {key!r}")
        mapping[key] = _construct(path, value_node, (*location, key), lines)
        lines[(*location, key)] = _line(key_node.start_mark)
    return mapping


def _scalar(path: Path, node: yaml.Node) -> Any:
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    text = str(node.value)
    if kind == "int":
        return int(text, 0) if re.match(r"[-+]?0[xo]", text) else int(text)
    if kind == "bool":
        return text.lower() == "true"
    if kind == "null":
        return None
    if kind == "str":
        return text
    raise ScenarioError(path, _line(node.start_mark), f"YAML tag {node.tag} is not allowed")
