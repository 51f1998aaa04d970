"""A judged run, as reports see it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import Exit
from harness.judge.record import RunRecord
from harness.judge.verdict import ClaimVerdict, Found, Judgement

RESULT_FORMAT = 1  # of the JSON documents; raised when a field changes its meaning


@dataclass(frozen=True)
class RunResult:
    """One scenario on one kernel and engine, judged."""

    scenario: str
    title: str
    kernel: str  # as the user wrote it, with what was changed: debian:6.12 +drop-decrement
    release: str
    engine: str
    folder: Path
    seconds: float
    judgement: Judgement
    fault: str = ""

    @property
    def column(self) -> str:
        """The column of a table that this run fills."""
        return f"{self.kernel} {self.engine}"

    @property
    def exit(self) -> Exit:
        return self.judgement.exit

    @classmethod
    def of(cls, record: RunRecord, judgement: Judgement, seconds: float) -> RunResult:
        """The result of a judged record."""
        return cls(
            scenario=record.name,
            title=record.scenario.title,
            kernel=str(record.kernel["label"]),
            release=str(record.kernel["release"]),
            engine=record.engine,
            folder=record.folder,
            seconds=seconds,
            judgement=judgement,
            fault=record.fault.text if record.fault else "",
        )

    def to_json(self) -> dict[str, Any]:
        """The result as JSON data; the format is documented in docs/results.md."""
        return {
            "format": RESULT_FORMAT,
            "scenario": self.scenario,
            "title": self.title,
            "kernel": self.kernel,
            "release": self.release,
            "engine": self.engine,
            "folder": str(self.folder),
            "seconds": round(self.seconds, 3),
            "exit": int(self.exit),
            "fault": self.fault,
            "claims": [_claim(claim) for claim in self.judgement.claims],
        }


def _claim(claim: ClaimVerdict) -> dict[str, Any]:
    return {
        "id": claim.use.claim.id,
        "text": claim.use.claim.text,
        "source": claim.use.claim.source,
        "verdict": claim.verdict.value,
        "known": claim.known,
        "findings": [_finding(found) for found in claim.findings],
    }


def _finding(found: Found) -> dict[str, Any]:
    return {
        "finding": found.finding.value,
        "expectation": found.expectation.kind if found.expectation else None,
        "text": found.text,
        "events": [event.to_json() for event in found.events],
        **({"evidence": list(found.evidence)} if found.evidence else {}),
    }


def write_json(target: str, data: Any) -> None:
    """Writes a result document to the file `target`, or to stdout for "-"."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    if target == "-":
        print(text, end="")
    else:
        Path(target).write_text(text)
