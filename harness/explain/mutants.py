"""A mutant: what its bug is, and which claims should notice it."""

from __future__ import annotations

import re

from harness.explain.explanation import Explanation, explanation
from harness.explain.project import Patch, patches
from harness.paths import PROJECT

_HEAD = re.compile(r"\A(?:[A-Z][\w-]*:.*\n(?:[ \t].*\n)*)*")  # of a mail
_TRAILERS = re.compile(r"\n(?:Mutant|Claims|Kernels|Engines):[\s\S]*\Z")


def mutants() -> set[str]:
    return {patch.mutant.id for patch in patches()}


def explain_mutant(name: str) -> Explanation:
    """Of a mutant of the project, as far as its versions agree as one."""
    versions = [patch for patch in patches() if patch.mutant.id == name]
    return explanation(
        "mutant",
        name,
        _story(versions[-1]),
        {
            "patches": [f"{patch.mutant.path.relative_to(PROJECT)}: {patch.mutant.subject}" for patch in versions],
            "claims that should notice": dict.fromkeys(claim for patch in versions for claim in patch.mutant.claims),
            "kernels": dict.fromkeys(f'"{kernel} +{name}"' for patch in versions for kernel in patch.mutant.kernels),
            "functions": sorted({function for patch in versions for function in patch.functions}),
        },
    )


def _story(patch: Patch) -> str:
    """The message, between the mail's head and the trailers."""
    text = patch.mutant.path.read_text(errors="replace").partition("\n---\n")[0]
    return _TRAILERS.sub("", _HEAD.sub("", text, count=1)).strip()
