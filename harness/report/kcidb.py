"""A submission to KCIDB, kernelci.org's database of results: https://docs.kernelci.org/kcidb/submitter_guide/.

What a kernel did is reported as it is: a known violation is FAIL there, linked to an issue that says so. Ids follow
from the kernel's build and the run's records alone, so that a report made twice is one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.errors import UsageError
from harness.guest.outcome import STEPS_LOG
from harness.judge.verdict import ClaimVerdict, Verdict
from harness.report.batch import Batch
from harness.report.cases import Status, message_of, started_at, status_of
from harness.report.folders import RUN
from harness.report.result import NotRun, RunResult
from harness.report.terminal import plain_evidence
from harness.scenario.model import ClaimUse
from harness.visible import visible

Object = dict[str, Any]
Part = tuple[str, Object]  # the list that it belongs into, and the object

_VERSION = {"major": 5, "minor": 1}  # the first in which builds have a status
_KINDS = ("checkouts", "builds", "tests", "issues", "incidents")
_STATUS = {
    Verdict.CONFIRMED: "PASS",
    Verdict.VIOLATED: "FAIL",
    Verdict.NOT_EXERCISED: "SKIP",
    Verdict.HARNESS_FAULT: "ERROR",
}
_NOT_RUN = "MISS"
_EXCERPT = 16_384  # characters


def parse_origin(text: str) -> str:
    """The name of a CI system. Raises UsageError."""
    if not re.fullmatch(r"[a-z0-9_]+", text):
        raise UsageError(f"{text!r} is no origin for KCIDB", expected="lower-case letters, digits and _")
    return text


def kcidb(batch: Batch) -> Object:
    """The submission; each object once, in the order of the runs."""
    found: dict[str, dict[str, Object]] = {kind: {} for kind in _KINDS}
    for part in _parts(batch):
        kind, item = part
        found[kind].setdefault(item["id"], item)
    return {"version": _VERSION, **{kind: list(items.values()) for kind, items in found.items() if items}}


def _parts(batch: Batch) -> Iterator[Part]:
    keys = {result.kernel: _build_id(batch.origin, result) for result in batch.results}
    for result in batch.results:
        yield from _run(batch.origin, result)
    for missing in batch.not_run:
        yield from _missing(batch.origin, missing, keys.get(missing.kernel))


def _run(origin: str, result: RunResult) -> Iterator[Part]:
    checkout = _checkout(origin, result)
    yield "checkouts", checkout
    yield "builds", _build(origin, result, checkout["id"])
    for claim in result.judgement.claims:
        test = _test(origin, result, claim)
        yield "tests", test
        if claim.known == Verdict.VIOLATED.value:
            issue = _issue(origin, claim.use)
            yield "issues", issue
            present = {Status.KNOWN: True, Status.FAIL: claim.verdict is Verdict.VIOLATED}.get(status_of(claim))
            if present is not None:
                yield "incidents", _incident(origin, issue, test, present)


def _checkout(origin: str, result: RunResult) -> Object:
    """The source: a Debian package, a git commit, a tree; with patches."""
    how = result.provenance
    packages = [f"{package['name']} {package['version']} ({package['suite']})" for package in how.get("packages", ())]
    patches = [str(patch["sha256"]) for patch in how.get("patches", ())]
    identity = {"packages": packages, "commit": how.get("commit"), "tree": how.get("tree"), "patches": patches}
    named = any(identity.values())
    subjects = [str(patch.get("subject") or patch["file"]) for patch in how.get("patches", ())]
    return {
        "id": f"{origin}:{_hash(identity if named else result.key)}",
        "origin": origin,
        **({"git_commit_hash": how["commit"]} if how.get("commit") else {}),
        "patchset_hash": hashlib.sha256("".join(f"{sha}\n" for sha in patches).encode()).hexdigest()
        if patches
        else "",
        "comment": _text("; ".join([*packages, *subjects]) or result.kernel),
        "valid": True,
    }


def _build_id(origin: str, result: RunResult) -> str:
    return f"{origin}:{result.key or _hash(result.kernel)}"


def _build(origin: str, result: RunResult, checkout_id: str) -> Object:
    compiler = result.provenance.get("compiler")
    return {
        "id": _build_id(origin, result),
        "origin": origin,
        "checkout_id": checkout_id,
        "architecture": "x86_64",
        "comment": _text(result.kernel),
        "status": "PASS",
        **({"compiler": _text(str(compiler))} if compiler else {}),
        "misc": {"release": result.release},
    }


def _test(origin: str, result: RunResult, claim: ClaimVerdict) -> Object:
    return {
        "id": f"{origin}:{_run_id(result)}:{claim.use.claim.id}",
        "origin": origin,
        "build_id": _build_id(origin, result),
        "path": _path(result.scenario, claim.use),
        "status": _STATUS[claim.verdict],
        "comment": _text(f"{result.title}: {message_of(result, claim) or claim.use.claim.text}"),
        "log_excerpt": _text("\n".join(plain_evidence(result, claim)))[:_EXCERPT],
        **_when(result),
        "duration": round(result.seconds, 3),
        "environment": {
            "comment": _text(", ".join(filter(None, ("QEMU", result.engine, result.beneath)))),
            "misc": {"engine": result.engine},
        },
        "misc": {"claim": claim.use.claim.id, "source": claim.use.claim.source, "verdict": claim.verdict.value},
    }


def _run_id(result: RunResult) -> str:
    """The name of the run's folder, and what the run wrote: two hosts may have made folders of one name."""
    written = [result.folder / name for name in (RUN, STEPS_LOG)]
    told = hashlib.sha256(b"".join(file.read_bytes() for file in written if file.is_file())).hexdigest()
    return f"{_text(result.folder.absolute().name)}-{told[:8]}"


def _issue(origin: str, use: ClaimUse) -> Object:
    """What the scenario declares: the claim is violated, since one commit and until another one."""
    story = {"since": use.since, "fixed_by": use.fixed_by}
    text = "; ".join(
        [f"{use.claim.id} is violated", *(f"{word} {commit}" for word, commit in story.items() if commit)]
    )
    return {
        "id": f"{origin}:{use.claim.id}:{_hash(story)}",
        "origin": origin,
        "version": 1,
        "culprit": {"code": True, "tool": False, "harness": False},
        "comment": _text(text.replace("fixed_by", "fixed by")),
        "misc": {"claim": use.claim.text, "source": use.claim.source},
    }


def _incident(origin: str, issue: Object, test: Object, present: bool) -> Object:
    return {
        "id": f"{test['id']}:known",
        "origin": origin,
        "issue_id": issue["id"],
        "issue_version": issue["version"],
        "test_id": test["id"],
        "present": present,
    }


def _missing(origin: str, missing: NotRun, build_id: str | None) -> Iterator[Part]:
    """What was planned and did not run. Of its kernel nothing is known but the name, unless another run had it."""
    if build_id is None:
        key = _hash(missing.kernel)
        checkout_id = build_id = f"{origin}:{key}"
        yield "checkouts", {"id": checkout_id, "origin": origin, "comment": _text(missing.kernel)}
        yield (
            "builds",
            {"id": build_id, "origin": origin, "checkout_id": checkout_id, "comment": _text(missing.kernel)},
        )
    for use in missing.claims:
        where = [missing.scenario, missing.kernel, missing.engine, use.claim.id]
        yield (
            "tests",
            {
                "id": f"{origin}:{_hash(where)}",
                "origin": origin,
                "build_id": build_id,
                "path": _path(missing.scenario, use),
                "status": _NOT_RUN,
                "comment": _text(f"{missing.title}: not run: {missing.why}"),
            },
        )


def _path(scenario: str, use: ClaimUse) -> str:
    return ".".join(re.sub(r"[^A-Za-z0-9_-]", "-", word) for word in ("virt_ordering", scenario, use.claim.id))


def _when(result: RunResult) -> Mapping[str, str]:
    started = started_at(result)
    return {"start_time": started.isoformat()} if started else {}


def _hash(identity: object) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _text(text: str) -> str:
    """KCIDB's strings have no NUL, and JSON no halves of surrogate pairs."""
    return visible(text)
