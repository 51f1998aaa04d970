"""As much of a container engine as this project's Dockerfile needs: builds and runs in an unpacked root, as root."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from harness import process
from harness.deadline import Deadline

# As Docker's own.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# $0: the root. A process tree of its own: what it leaves behind ends with it.
_ENTER = """\
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
mount --rbind /sys "$0/sys"
exec "$@"
"""


@dataclass(frozen=True)
class Instruction:
    """`NAME arguments`, at a line of the file."""

    name: str
    arguments: str
    line: int

    @property
    def words(self) -> list[str]:
        """The arguments, of either form: `a b` or `["a", "b"]`."""
        if self.arguments.startswith("["):
            words: list[str] = json.loads(self.arguments)
            return words
        return shlex.split(self.arguments)


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, without comments; a line that ends in a backslash goes on in the next."""
    found = []
    start, pending = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        start = start if pending else number
        pending += line.strip()
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        name, _, arguments = pending.partition(" ")
        found.append(Instruction(name, arguments.strip(), start))
        pending = ""
    return found


def ignored(path: PurePath, patterns: Iterable[str]) -> bool:
    """Whether a .dockerignore with these patterns leaves out `path` or a folder above it."""
    candidates = [str(one) for one in (path, *path.parents)]
    return any(
        fnmatch.fnmatch(candidate, pattern.removeprefix("**/"))
        or (pattern.startswith("**/") and fnmatch.fnmatch(candidate, f"*/{pattern.removeprefix('**/')}"))
        for pattern in patterns
        for candidate in candidates
    )


def patterns(dockerignore: Path) -> list[str]:
    """The patterns of a .dockerignore."""
    return [line for line in dockerignore.read_text().splitlines() if line and not line.startswith("#")]


@dataclass
class Image:
    """A root folder that instructions are carried out in, and what they say of it. There is one stage."""

    root: Path
    context: Path
    files: Sequence[PurePath]  # of the context, as far as .dockerignore leaves them
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    arguments: dict[str, str] = field(default_factory=dict)  # ARG: in RUN only
    workdir: str = "/"
    user: str = "root"
    lists: dict[str, list[str]] = field(default_factory=dict)  # of VOLUME, ENTRYPOINT and CMD

    def build(self, instructions: Iterable[Instruction], deadline: Deadline) -> None:
        """Carries out all instructions but FROM. Raises ProcessFailed for a RUN that fails."""
        for instruction in instructions:
            self._do(instruction, deadline)

    def run(self, words: Sequence[str], deadline: Deadline, environment: Mapping[str, str] | None = None) -> str:
        """`docker run IMAGE WORDS`: the output of the entry point. Raises ProcessFailed."""
        return self._enter([*self.lists["ENTRYPOINT"], *words], environment or {}, deadline)

    def _do(self, instruction: Instruction, deadline: Deadline) -> None:
        match instruction.name:
            case "FROM":
                pass
            case "ARG" | "ENV":
                self._set(instruction)
            case "WORKDIR":
                self.workdir = instruction.arguments
                (self.root / self.workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(*instruction.words)
            case "RUN":
                self._enter(["/bin/sh", "-c", instruction.arguments], self.arguments, deadline)
            case "USER":
                self.user = instruction.arguments
            case "VOLUME" | "ENTRYPOINT" | "CMD":
                self.lists[instruction.name] = instruction.words
            case name:
                raise NotImplementedError(f"Dockerfile:{instruction.line}: {name}")

    def _set(self, instruction: Instruction) -> None:
        values = self.environment if instruction.name == "ENV" else self.arguments
        for word in instruction.words:
            name, _, value = word.partition("=")
            values[name] = self._expand(value)

    def _expand(self, value: str) -> str:
        known = self.arguments | self.environment
        return re.sub(r"\$(\w+)", lambda match: known[match[1]], value)

    def _copy(self, source: str, target: str) -> None:
        wanted = PurePath(source)
        chosen = [path for path in self.files if path.is_relative_to(wanted)]
        if not chosen:
            raise FileNotFoundError(f"COPY {source}: the context has no such file")
        into = self.root / self.workdir.lstrip("/") / target
        for path in chosen:
            inside = path.relative_to(wanted) if path != wanted else PurePath(path.name)
            (into / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.context / path, into / inside)

    def _enter(self, argv: Sequence[str], environment: Mapping[str, str], deadline: Deadline) -> str:
        variables = [f"{name}={value}" for name, value in {**self.environment, **environment}.items()]
        inside: list[str | Path] = ["chroot", f"--userspec={self.user}", self.root, "env", "-i", *variables]
        there = ["sh", "-c", 'cd "$0" && exec "$@"', self.workdir, *argv]
        apart: list[str | Path] = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-e",
            "-c",
            _ENTER,
            self.root,
        ]
        return process.run([*apart, *inside, *there], deadline)
