"""Kernel configuration: fragments merged, and what became of each option explained."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness import paths
from harness.errors import DoesNotBuild, UsageError

FRAGMENTS = paths.PROJECT / "kconfigs"

_SET = re.compile(r"(CONFIG_\w+)=(.*)")
_UNSET = re.compile(r"# (CONFIG_\w+) is not set")


@dataclass(frozen=True)
class Fragment:
    """Options that a kernel is built with; `options` maps CONFIG_FOO to y, m, n or a value."""

    name: str
    path: Path
    options: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """Of the options, not of the comments that explain them."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def text(self) -> str:
        """As lines of a .config."""
        return "".join(
            f"# {name} is not set\n" if value == "n" else f"{name}={value}\n" for name, value in self.options.items()
        )


def read_config(path: Path) -> dict[str, str]:
    """The options that are set in a .config: CONFIG_FOO to y, m or a value (strings keep their quotes)."""
    pairs = (_SET.fullmatch(line) for line in path.read_text(errors="replace").splitlines())
    return {match[1]: match[2] for match in pairs if match}


def known_fragments() -> list[str]:
    """The names of the fragments in kconfigs/."""
    return sorted(file.stem for file in FRAGMENTS.glob("*.config"))


def read_fragment(name: str) -> Fragment:
    """The fragment kconfigs/NAME.config, or the file NAME when it is a path. Raises UsageError."""
    path = Path(name) if "/" in name or name.endswith(".config") else FRAGMENTS / f"{name}.config"
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(known_fragments())
        raise UsageError(
            f"no kconfig fragment {name!r}", expected=f"one of {known}, or a path", found=str(error)
        ) from error
    options: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if match := _SET.fullmatch(line.strip()):
            options[match[1]] = match[2]
        elif match := _UNSET.fullmatch(line.strip()):
            options[match[1]] = "n"
        elif line.strip() and not line.lstrip().startswith("#"):
            raise UsageError(f"{path}:{number}: {line.strip()!r} is not a kconfig option", expected="CONFIG_FOO=y")
    return Fragment(name, path, options)


def check(fragments: Iterable[Fragment], config: Mapping[str, str], tree: Path) -> None:
    """Raises DoesNotBuild when an option of `fragments` is not in `config`, the result of olddefconfig in `tree`.

    A later fragment overrides an earlier one; y satisfies m, as kconfig promotes it when something selects it.
    """
    wanted = {name: (value, fragment) for fragment in fragments for name, value in fragment.options.items()}
    lost = {name: pair for name, pair in wanted.items() if not _satisfied(pair[0], config.get(name, "n"))}
    if not lost:
        return
    tree_symbols = symbols(tree)
    lines = [
        f"{name}: wanted {value} ({fragment.name}), got {config.get(name, 'n')}: {_why(name, tree_symbols, config)}"
        for name, (value, fragment) in lost.items()
    ]
    raise DoesNotBuild(
        f"{len(lost)} kconfig option{'s' * (len(lost) > 1)} did not stick: {', '.join(lost)}",
        hint="add what it depends on to the fragment, or take it out",
        evidence="\n".join(lines),
    )


def _satisfied(wanted: str, got: str) -> bool:
    return got == wanted or (wanted == "m" and got == "y")


@dataclass
class Symbol:
    """What the Kconfig files of a tree say about one option."""

    # One list per definition, of the expressions of its `depends on` and of each `if` and `menu` around it.
    definitions: list[list[str]] = field(default_factory=list)
    prompt: bool = False  # only a symbol with a prompt can be set by hand

    def unmet(self, config: Mapping[str, str]) -> list[str]:
        """The expressions that are n, of the definition that has the fewest of them."""
        candidates = [[one for one in dict.fromkeys(d) if _value(one, config) == 0] for d in self.definitions]
        return min(candidates, key=len)


def symbols(tree: Path) -> dict[str, Symbol]:
    """Every symbol of an x86 kernel by its name without CONFIG_ (Documentation/kbuild/kconfig-language.rst)."""
    found: dict[str, Symbol] = {}
    _Parser(tree, found).read(tree / "Kconfig", ())
    return found


class _Parser:
    """Reads what decides whether a symbol can be set: definitions, prompts and conditions."""

    def __init__(self, tree: Path, found: dict[str, Symbol]) -> None:
        self._tree = tree
        self._found = found
        self._current = Symbol()  # gets the attributes that follow; a menu's or choice's are gathered here too
        self._depends: list[str] = []

    def read(self, path: Path, outer: tuple[str, ...]) -> None:
        """`outer` are the conditions around the `source` line."""
        if not path.is_file():  # optional files, and those of other architectures
            return
        blocks: list[list[str]] = [list(outer)]  # one list of conditions per open if, menu or choice
        for keyword, rest in _statements(path):
            self._statement(keyword, rest, blocks)

    def _statement(self, keyword: str, rest: str, blocks: list[list[str]]) -> None:
        match keyword:
            case "config" | "menuconfig":
                self._current = self._found.setdefault(rest, Symbol())
                self._depends = [condition for block in blocks for condition in block]
                self._current.definitions.append(self._depends)
            case "if":
                blocks.append([rest])
            case "menu" | "choice":
                blocks.append([])
                self._current, self._depends = Symbol(), blocks[-1]
            case "endif" | "endmenu" | "endchoice":
                blocks.pop()
            case "source":
                name = rest.strip('"').replace("$(SRCARCH)", "x86").replace("$(HEADER_ARCH)", "x86")
                self.read(self._tree / name, tuple(condition for block in blocks for condition in block))
            case "depends":
                self._depends.append(rest.removeprefix("on").strip())
            case "bool" | "tristate" | "string" | "int" | "hex" | "prompt":
                self._current.prompt = self._current.prompt or rest.startswith(('"', "'"))
            case "comment":
                self._current, self._depends = Symbol(), []


def _statements(path: Path) -> Iterator[tuple[str, str]]:
    """(keyword, rest) of each logical line, help texts left out."""
    help_indent: int | None = None  # of the help text that is being skipped; 0 before its first line
    for line in path.read_text(errors="replace").replace("\\\n", " ").expandtabs().splitlines():
        words = line.split(None, 1)
        if not words:
            continue
        indent = len(line) - len(line.lstrip())
        if help_indent is not None and indent >= max(help_indent, 1):
            help_indent = help_indent or indent
            continue
        help_indent = 0 if words[0] in ("help", "---help---") else None
        if not words[0].startswith("#"):
            yield words[0], " ".join(" ".join(words[1:]).partition(" #")[0].split())


def _why(name: str, known: Mapping[str, Symbol], config: Mapping[str, str]) -> str:
    """Why kconfig did not take an option: its unmet dependencies, with the values of their symbols."""
    symbol = known.get(name.removeprefix("CONFIG_"))
    if symbol is None:
        return "this kernel has no such option"
    if unmet := symbol.unmet(config):
        return "; ".join(f"depends on {condition} [{_values(condition, config)}]" for condition in unmet)
    if not symbol.prompt:
        return "it has no prompt: it is set only when another option selects it"
    return "its dependencies are met; another option selects it, or the value is out of its range"


_TOKEN = re.compile(r"\$\([^)]*\)|\"[^\"]*\"|'[^']*'|&&|\|\||!=|<=|>=|[()!=<>]|[\w.-]+")
_TRISTATE = {"n": 0, "m": 1, "y": 2}
_LITERALS = frozenset(_TRISTATE)


def _values(condition: str, config: Mapping[str, str]) -> str:
    names = [token for token in _TOKEN.findall(condition) if re.fullmatch(r"[A-Z0-9_]*[A-Z_][A-Z0-9_]*", token)]
    return ", ".join(f"{name}={config.get('CONFIG_' + name, 'n')}" for name in dict.fromkeys(names))


def _value(condition: str, config: Mapping[str, str]) -> int:
    """0, 1 or 2 for n, m or y, after the expression rules of kconfig-language.rst."""
    return _Expression(_TOKEN.findall(condition), config).either()


class _Expression:
    """Recursive descent over `a && (b || !c) && d = "e"`."""

    def __init__(self, tokens: list[str], config: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._config = config

    def either(self) -> int:
        value = self._both()
        while self._accept("||"):
            value = max(value, self._both())
        return value

    def _both(self) -> int:
        value = self._term()
        while self._accept("&&"):
            value = min(value, self._term())
        return value

    def _term(self) -> int:
        if self._accept("!"):
            return 2 - self._term()
        if self._accept("("):
            value = self.either()
            self._accept(")")
            return value
        left = self._text()
        for operator, holds in _COMPARISONS.items():
            if self._accept(operator):
                return 2 * holds(left, self._text())
        return _TRISTATE.get(left, 0)

    def _accept(self, token: str) -> bool:
        if self._tokens[:1] != [token]:
            return False
        self._tokens.pop(0)
        return True

    def _text(self) -> str:
        """The value of the next symbol or literal. A macro asks the compiler; olddefconfig had its answer, take y."""
        token = self._tokens.pop(0) if self._tokens else "n"
        if token.startswith("$("):
            return "y"
        if token in _LITERALS or token[0] in "\"'" or token.isdigit():
            return token.strip("\"'")
        return self._config.get(f"CONFIG_{token}", "n").strip('"')


def _number(text: str) -> int:
    return int(text, 0) if re.fullmatch(r"0x[0-9a-fA-F]+|[1-9]\d*|0", text) else 0


_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<=": lambda left, right: _number(left) <= _number(right),
    ">=": lambda left, right: _number(left) >= _number(right),
    "<": lambda left, right: _number(left) < _number(right),
    ">": lambda left, right: _number(left) > _number(right),
}
