"""A mutant: a patch with one seeded bug, and trailers that say what it is about.

The trailers stand before the diff, as in a commit message:

    Mutant: failure-keeps-usage-count
    Claims: failed-enable-leaves-nothing, usage-count-transitions
    Kernels: debian:6.12
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.paths import PROJECT
from harness.scenario.load import closest, reference_claims

MUTANTS = PROJECT / "patches" / "mutants"

_TRAILER = re.compile(r"^(Mutant|Claims|Kernels|Engines): *(.+)$", re.MULTILINE)
_DIFF = re.compile(r"^(?:diff --git |--- )", re.MULTILINE)
_SUBJECT = re.compile(r"^Subject: *(?:\[[^\]]*\] *)?(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """`claims` are the ids of the claims that should notice it; none means: not said, any may."""

    id: str
    path: Path
    subject: str = ""
    claims: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()


def load_mutant(path: Path) -> Mutant:
    """Reads a patch's trailers. Raises UsageError for an unreadable file or an unknown claim."""
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    diff = _DIFF.search(text)
    head = text[: diff.start()] if diff else text
    trailers = {name: tuple(re.split(r"\s*,\s*", value.strip())) for name, value in _TRAILER.findall(head)}
    for claim in trailers.get("Claims", ()):
        if claim not in reference_claims():
            raise UsageError(f"{path}: unknown claim {claim!r}", hint=closest(claim, reference_claims()))
    subject = _SUBJECT.search(head)
    return Mutant(
        id=trailers.get("Mutant", (path.stem,))[0],
        path=path,
        subject=subject[1] if subject else "",
        claims=trailers.get("Claims", ()),
        kernels=trailers.get("Kernels", ()),
        engines=trailers.get("Engines", ()),
    )


def project_mutants(kernel: str) -> list[Mutant]:
    """The project's mutants for a kernel spec. Raises UsageError when there are none."""
    found = [mutant for path in sorted(MUTANTS.rglob("*.patch")) if kernel in (mutant := load_mutant(path)).kernels]
    if not found:
        raise UsageError(f"the project has no mutants for {kernel}", hint="give patch files")
    return found
