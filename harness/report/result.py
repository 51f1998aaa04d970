"""A judged run, as reports see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from harness.errors import Exit
from harness.judge.record import RunRecord
from harness.judge.verdict import ClaimVerdict, Found, Judgement
from harness.machine.engine import ENGINES
from harness.machine.host import Host
from harness.output import write_output
from harness.report.document import (
    RESULT_FORMAT,
    ClaimDocument,
    EventDocument,
    FindingDocument,
    HostDocument,
    ResultDocument,
)
from harness.scenario.model import ClaimUse


def beneath(engine: str, host: Host | None) -> str:
    """What the guest's CPUs were in truth: "on an emulated host (QEMU TCG)"; "" unless they were the host's CPUs, and
    a hypervisor's."""
    if host is None or not any(row.on_host for row in ENGINES if row.name == engine):
        return ""
    if host.emulated:
        return f"on an emulated host ({host.emulator})"
    return f"on a host that is itself a guest ({host.hypervisor})" if host.hypervisor else ""


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
    started: str = ""  # ISO 8601
    version: str = ""  # the numbers of `release`
    key: str = ""  # of the kernel's build
    provenance: Mapping[str, Any] = field(default_factory=dict)  # how that came about
    host: Host | None = None  # not known of older runs

    @property
    def column(self) -> str:
        """The column of a table that this run fills."""
        return f"{self.kernel} {self.engine}"

    @property
    def beneath(self) -> str:
        """What the guest's CPUs were in truth, where they were the host's and that is no bare metal."""
        return beneath(self.engine, self.host)

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
            started=record.started,
            version=record.version,
            key=str(record.kernel.get("key", "")),
            provenance=record.kernel.get("provenance", {}),
            host=record.host,
        )

    def to_json(self) -> ResultDocument:
        """The result as JSON data; `harness schema result` prints its schema."""
        document: ResultDocument = {
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
            "started": self.started,
            "version": self.version,
            "key": self.key,
            "provenance": dict(self.provenance),
        }
        if self.host is None:
            return document
        return {**document, "host": cast("HostDocument", self.host.to_json())}


@dataclass(frozen=True)
class NotRun:
    """What a batch was to run, had it not ended before."""

    scenario: str
    title: str
    kernel: str
    engine: str
    claims: tuple[ClaimUse, ...]
    why: str

    @property
    def column(self) -> str:
        """The column of a table that the run would have filled."""
        return f"{self.kernel} {self.engine}"

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "claims": [use.model_dump(mode="json") for use in self.claims]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NotRun:
        """The inverse of `to_json`. Raises ValueError, TypeError, KeyError."""
        return cls(**{**data, "claims": tuple(ClaimUse.model_validate(use) for use in data["claims"])})


def _claim(claim: ClaimVerdict) -> ClaimDocument:
    return {
        "id": claim.use.claim.id,
        "text": claim.use.claim.text,
        "source": claim.use.claim.source,
        "verdict": claim.verdict.value,
        "known": claim.known,
        "findings": [_finding(found) for found in claim.findings],
    }


def _finding(found: Found) -> FindingDocument:
    document: FindingDocument = {
        "finding": found.finding.value,
        "expectation": found.expectation.kind if found.expectation else None,
        "text": found.text,
        "events": [cast("EventDocument", event.to_json()) for event in found.events],
    }
    return {**document, "evidence": list(found.evidence)} if found.evidence else document


def write_json(target: str, data: Any) -> None:
    """Writes a result document to the file `target`, or to stdout for "-"."""
    write_output(target, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
