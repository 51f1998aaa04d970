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
from harness.scenario.faults import closest
from harness.scenario.load import reference_claims

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

    def suits(self, spec: str) -> bool:
        """Whether it can be built into the kernel `spec`.

        Debian's source of a version has what its package of that version was made of, and more fragments take nothing
        away: a mutant of debian:6.12 is one of debian-source:6.12+tdx too, and that one of …+tdx+lockdep.
        """
        return any(spec == kernel or _is_variant(spec, kernel) for kernel in self.kernels)


def _is_variant(spec: str, kernel: str) -> bool:
    (scheme, _, rest), (known_scheme, _, known) = (name.partition(":") for name in (spec, kernel))
    (version, *fragments), (known_version, *known_fragments) = rest.split("+"), known.split("+")
    return (
        scheme == "debian-source"
        and known_scheme in ("debian", "debian-source")
        and version == known_version
        and set(known_fragments) <= set(fragments)
    )


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


def project_mutant(id: str, spec: str) -> Mutant:
    """The project's mutant `id` of the kernel `spec`. Raises UsageError that names the nearest."""
    suited = {
        mutant.id: mutant for path in sorted(MUTANTS.rglob("*.patch")) if (mutant := load_mutant(path)).suits(spec)
    }
    if id not in suited:
        hint = closest(id, suited) if suited else "`harness mutants` takes patches of your own"
        raise UsageError(f"the project has no mutant {id!r} of {spec}", hint=hint)
    return suited[id]


def project_mutants(kernel: str) -> list[Mutant]:
    """The project's mutants for a kernel spec. Raises UsageError when there are none."""
    found = [mutant for path in sorted(MUTANTS.rglob("*.patch")) if kernel in (mutant := load_mutant(path)).kernels]
    if not found:
        raise UsageError(f"the project has no mutants for {kernel}", hint="give patch files")
    return found
