"""Every word that can be explained, and by whom."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.errors import UsageError
from harness.explain import claims, functions, keys, mutants
from harness.explain.explanation import Explanation


@dataclass(frozen=True)
class Subject:
    """One kind of words: which there are, and what is told about one of them."""

    words: Callable[[], Iterable[str]]
    explain: Callable[[str], Explanation]


SUBJECTS: tuple[Subject, ...] = (
    Subject(claims.claims, claims.explain_claim),
    Subject(keys.steps, keys.explain_step),
    Subject(keys.expectations, keys.explain_expectation),
    Subject(keys.every_key, keys.explain_key),
    Subject(keys.platform_events, keys.explain_platform_event),
    Subject(mutants.mutants, mutants.explain_mutant),
    Subject(functions.spoken_of, functions.explain_function),
)


def explain(word: str) -> list[Explanation]:
    """All that the word means; `kvm_shutdown()` is the function. Raises UsageError that names the nearest words."""
    name = word.removesuffix("()")
    name = _by_number().get(name, name)
    found = [subject.explain(name) for subject in SUBJECTS if name in set(subject.words())]
    if not found and functions.is_function(name):
        found = [functions.explain_function(name)]
    if not found:
        known = sorted({known for subject in SUBJECTS for known in subject.words()})
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
        raise UsageError(
            f"nothing is known of {word!r}",
            expected="a kernel function, a claim, a step, an expectation, a key of a scenario, or a mutant",
            hint=", ".join(near) or "harness explain claims, steps, expect, machine",
        )
    return found


def _by_number() -> dict[str, str]:
    """Claims of the reference discussion by their number."""
    return {str(claim.number): claim.id for claim in claims.claims().values() if claim.number}
