"""What a patch touches, read off its diff: functions that it changes, and names that its changed lines speak of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.kernels.diff import Patch

# A function's or a variable's head: something at the very left that is neither a label nor the end of a block.
_HEAD = re.compile(r"[A-Za-z_][\w\s*,()]*?\b(\w+)\(|[A-Za-z_][\w\s*]*?\b(\w+)(?:\[\w*\])* = \{")
_HUNK = re.compile(r"^@@ .*? @@ ?(.*)$")
_NAME = re.compile(r"[A-Za-z_]\w{3,}")
_COMMENT = re.compile(r"/\*.*?\*/|//.*|^\s*\*.*|^\s*/\*.*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_COMPILED = (".c", ".h", ".S")


@dataclass(frozen=True)
class Touched:
    """`functions` have a changed line in them, or are variables that have; `names` stand on changed lines."""

    files: frozenset[str]
    functions: frozenset[str]
    names: frozenset[str]


def touched(patches: Iterable[Patch]) -> Touched:
    """What `patches` touch. Documentation and user space count among the files only."""
    files, functions, names = set(), set(), set()
    for patch in patches:
        files |= set(patch.files)
        for diff in patch.diffs:
            if any(path.endswith(_COMPILED) for path in diff.paths):
                for function, line in _changed(diff.text):
                    functions |= {function} - {""}
                    names |= set(_NAME.findall(line))
    return Touched(frozenset(files), frozenset(functions), frozenset(names - functions))


def _changed(diff: str) -> Iterator[tuple[str, str]]:
    """Each changed line, without comments and strings, and the function that it is in; "" between functions."""
    inside = ""
    for line in diff.splitlines():
        if hunk := _HUNK.match(line):
            inside = _head(hunk[1])
        elif line[:3] not in ("---", "+++") and line[:1] in ("+", "-", " "):
            text = line[1:]
            inside = _head(text) or inside
            changed = _STRING.sub("", _COMMENT.sub("", text))
            if line[0] != " " and changed.strip():
                yield inside, changed
            if text.startswith("}"):
                inside = ""


def _head(text: str) -> str:
    """The function or variable that `text` is the first line of; "" when it is not. A hunk's own is cut short."""
    found = _HEAD.match(text)
    # A declaration, or a macro that stands alone: module_init(kvm_init);
    return "" if found is None or text.rstrip().endswith(";") else found[1] or found[2]
