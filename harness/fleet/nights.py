"""What is known of nights: written as it becomes known, so that a night goes on where it was killed."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import Exit, HarnessError
from harness.fleet.database import transaction, trouble
from harness.fleet.frozen import FrozenKernel
from harness.fleet.plan import Cell
from harness.judge.verdict import ClaimVerdict, Finding, Verdict
from harness.kernels.model import BuildOptions
from harness.report.result import RunResult
from harness.scenario.model import Scenario

_EVIDENCE_CHARACTERS = 500  # a sentence or three; the folder has all of it

State = Literal["unfinished", "finished", "abandoned"]


@dataclass(frozen=True)
class Night:
    """A night, and the process that runs it, or did last. Times are ISO 8601."""

    id: int
    matrix: str
    digest: str
    state: State
    began: str
    ended: str | None
    pid: int
    host: str
    since: str


_NIGHT = ", ".join(field.name for field in dataclasses.fields(Night))  # as columns


@dataclass(frozen=True)
class NightKernel:
    """A kernel in a night. `exit` says why it could not be had, None for one that could or was not tried yet."""

    frozen: FrozenKernel
    exit: Exit | None = None
    fault: str = ""


@dataclass(frozen=True)
class ClaimOutcome:
    """What one run says of one claim."""

    claim: str
    verdict: Verdict
    known: str | None = None
    declared: bool = False  # whether the verdict is as declared
    evidence: str = ""

    @classmethod
    def of(cls, claim: ClaimVerdict) -> ClaimOutcome:
        telling = [found.text for found in claim.findings if found.finding is not Finding.HELD] or [
            found.text for found in claim.findings
        ]
        evidence = "; ".join(telling)[:_EVIDENCE_CHARACTERS]
        return cls(claim.use.claim.id, claim.verdict, claim.known, claim.as_declared, evidence)


@dataclass(frozen=True)
class Attempt:
    """One run of a cell; `folder` is "" where it came to none."""

    number: int
    seconds: float
    folder: str
    exit: Exit
    fault: str
    claims: tuple[ClaimOutcome, ...]

    @classmethod
    def of(cls, number: int, result: RunResult) -> Attempt:
        claims = tuple(ClaimOutcome.of(claim) for claim in result.judgement.claims)
        return cls(number, result.seconds, str(result.folder), result.exit, result.fault, claims)

    @classmethod
    def failed(cls, number: int, scenario: Scenario, error: HarnessError | NightKernel) -> Attempt:
        """One that came to no verdict: no claim is confirmed, and none is violated."""
        exit = error.exit if error.exit is not None else Exit.HARNESS_FAULT
        text = str(error) if isinstance(error, HarnessError) else error.fault
        verdict = Verdict.HARNESS_FAULT if exit is Exit.HARNESS_FAULT else Verdict.NOT_EXERCISED
        head = text.partition("\n")[0]
        return cls(
            number,
            seconds=0.0,
            folder="",
            exit=exit,
            fault=text,
            claims=tuple(ClaimOutcome(use.claim.id, verdict, evidence=head) for use in scenario.claims),
        )


@dataclass(frozen=True)
class NightCell:
    """A cell of a night with what was recorded of it."""

    id: int
    cell: Cell
    digest: str  # of the scenario
    starts: Mapping[int, int]  # how often each attempt was begun that is not recorded
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class Line:
    """What is followed from night to night: a claim in a cell."""

    scenario: str
    claim: str
    kernel: str
    engine: str

    def __str__(self) -> str:
        return f"{self.claim} of {self.scenario} on {self.kernel} {self.engine}"


@dataclass(frozen=True)
class Sighting:
    """What a night saw of a line: for each verdict, and whether it was as declared, in how many runs."""

    night: int
    line: Line
    digest: str  # of the scenario
    key: str  # of the kernel, "" where it was not to be had
    counts: Mapping[tuple[Verdict, bool], int]

    @property
    def counted(self) -> Mapping[tuple[Verdict, bool], int]:
        """Without the harness's own faults, if another run came to a verdict."""
        kernels = {seen: count for seen, count in self.counts.items() if seen[0] is not Verdict.HARNESS_FAULT}
        return kernels or self.counts

    @property
    def verdicts(self) -> list[Verdict]:
        """More than one: this night alone shows that they change from run to run."""
        return list(dict.fromkeys(verdict for verdict, _ in self.counted))

    @property
    def green(self) -> bool:
        """Whether every run was as declared."""
        return all(declared for _, declared in self.counted)


def now() -> str:
    """The time as the database has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


@dataclass(frozen=True)
class Nights:
    """The nights of one matrix in a database. Methods raise DiskFull and HostFault, and what they wrote is undone."""

    connection: sqlite3.Connection
    path: Path
    matrix: str

    def begin(self, digest: str, kernels: Iterable[NightKernel], cells: Iterable[tuple[Cell, str]]) -> int:
        """A new night, with its kernels and cells (each with its scenario's digest); whichever was unfinished is
        abandoned. Returns its number."""
        with self._transaction():
            self._execute(
                "UPDATE nights SET state = 'abandoned' WHERE matrix = ? AND state = 'unfinished'", self.matrix
            )
            cursor = self._execute(
                "INSERT INTO nights (matrix, digest, state, began, pid, host, since)"
                " VALUES (?,?,'unfinished',?,?,?,?)",
                *(self.matrix, digest, now(), os.getpid(), socket.gethostname(), now()),
            )
            night = cursor.lastrowid
            assert night is not None
            for kernel in kernels:
                self._insert_kernel(night, kernel)
            self.connection.executemany(
                "INSERT INTO cells (night, scenario, digest, kernel, engine) VALUES (?,?,?,?,?)",
                [(night, cell.scenario, digest, cell.kernel, cell.engine) for cell, digest in cells],
            )
        return night

    def _insert_kernel(self, night: int, kernel: NightKernel) -> None:
        frozen = kernel.frozen
        self._execute(
            "INSERT INTO kernels VALUES (?,?,?,?,?,?,?,?,?)",
            *(night, frozen.name, frozen.spec, frozen.revision, json.dumps(frozen.identity)),
            *(frozen.key, frozen.release, kernel.exit, kernel.fault),
        )

    def take_up(self, night: int) -> None:
        """Notes that this process goes on with a night."""
        with self._transaction():
            self._execute(
                "UPDATE nights SET pid = ?, host = ?, since = ? WHERE id = ?",
                *(os.getpid(), socket.gethostname(), now(), night),
            )

    def finish(self, night: int) -> None:
        with self._transaction():
            self._execute("UPDATE nights SET state = 'finished', ended = ? WHERE id = ?", now(), night)

    def unfinished(self) -> Night | None:
        """The night that is to be gone on with."""
        return next((night for night in reversed(self.all()) if night.state == "unfinished"), None)

    def last_taken_up(self) -> Night | None:
        """The night, of any matrix in this file, that a process took up last."""
        rows = self._rows(f"SELECT {_NIGHT} FROM nights ORDER BY since DESC, id DESC LIMIT 1")
        return Night(*rows[0]) if rows else None

    def all(self) -> list[Night]:
        """Oldest first."""
        rows = self._rows(f"SELECT {_NIGHT} FROM nights WHERE matrix = ? ORDER BY id", self.matrix)
        return [Night(*row) for row in rows]

    def kernels(self, night: int, options: Mapping[str, BuildOptions]) -> dict[str, NightKernel]:
        """By name. What is done to them stands in the matrix: `options`, by name."""
        rows = self._rows(
            "SELECT name, spec, revision, identity, key, release, exit, fault FROM kernels WHERE night = ?", night
        )
        return {
            name: NightKernel(
                FrozenKernel(
                    name, spec, options.get(name, BuildOptions()), revision, json.loads(identity), key, release
                ),
                None if exit is None else Exit(exit),
                fault,
            )
            for name, spec, revision, identity, key, release, exit, fault in rows
        }

    def set_kernel(self, night: int, kernel: NightKernel) -> None:
        """Records what came of building it."""
        frozen = kernel.frozen
        with self._transaction():
            self._execute(
                "UPDATE kernels SET key = ?, release = ?, exit = ?, fault = ? WHERE night = ? AND name = ?",
                *(frozen.key, frozen.release, kernel.exit, kernel.fault, night, frozen.name),
            )

    def start(self, cell: int, number: int) -> None:
        """Notes that a run begins; `record` and `forgive` take it back."""
        with self._transaction():
            self._execute(
                "INSERT INTO starts VALUES (?,?,1) ON CONFLICT (cell, number) DO UPDATE SET count = count + 1",
                *(cell, number),
            )

    def forgive(self, runs: Iterable[tuple[int, int]]) -> None:
        """What is known to have been interrupted, and why, says nothing against its cell. `runs`: cell and number."""
        with self._transaction():
            self.connection.executemany("DELETE FROM starts WHERE cell = ? AND number = ?", list(runs))

    def record(self, cell: int, attempt: Attempt) -> None:
        """Records a run that ended. A number that a cell has already is refused by the database."""
        with self._transaction():
            cursor = self._execute(
                "INSERT INTO attempts (cell, number, ended, seconds, folder, exit, fault) VALUES (?,?,?,?,?,?,?)",
                *(cell, attempt.number, now(), attempt.seconds, attempt.folder, int(attempt.exit), attempt.fault),
            )
            self.connection.executemany(
                "INSERT INTO verdicts VALUES (?,?,?,?,?,?)",
                [
                    (cursor.lastrowid, one.claim, one.verdict.value, one.known, one.declared, one.evidence)
                    for one in attempt.claims
                ],
            )
            self._execute("DELETE FROM starts WHERE cell = ? AND number = ?", cell, attempt.number)

    def cells(self, night: int) -> list[NightCell]:
        """The cells of a night as they were planned, with their attempts in order."""
        claims: dict[int, list[ClaimOutcome]] = {}
        for attempt, claim, verdict, known, declared, evidence in self._rows(
            "SELECT verdicts.* FROM verdicts JOIN attempts ON attempt = attempts.id JOIN cells ON cell = cells.id"
            " WHERE night = ?",
            night,
        ):
            outcome = ClaimOutcome(claim, Verdict(verdict), known, bool(declared), evidence)
            claims.setdefault(attempt, []).append(outcome)
        attempts: dict[int, list[Attempt]] = {}
        for id, cell, number, seconds, folder, exit, fault in self._rows(
            "SELECT attempts.id, cell, number, seconds, folder, exit, fault"
            " FROM attempts JOIN cells ON cell = cells.id WHERE night = ? ORDER BY number",
            night,
        ):
            one = Attempt(number, seconds, folder, Exit(exit), fault, tuple(claims.get(id, ())))
            attempts.setdefault(cell, []).append(one)
        starts: dict[int, dict[int, int]] = {}
        for cell, number, count in self._rows(
            "SELECT cell, number, count FROM starts JOIN cells ON cell = cells.id WHERE night = ?", night
        ):
            starts.setdefault(cell, {})[number] = count
        rows = self._rows("SELECT id, scenario, kernel, engine, digest FROM cells WHERE night = ? ORDER BY id", night)
        return [
            NightCell(id, Cell(*names), digest, starts.get(id, {}), tuple(attempts.get(id, ())))
            for id, *names, digest in rows
        ]

    def history(self, up_to: int) -> list[Sighting]:
        """What each night up to this one saw of each line, the oldest first."""
        rows = self._rows(
            "SELECT night, cells.digest, key, scenario, claim, cells.kernel, engine, verdict, declared, count(*)"
            " FROM verdicts JOIN attempts ON attempt = attempts.id JOIN cells ON cell = cells.id"
            " JOIN nights ON night = nights.id JOIN kernels USING (night)"
            " WHERE kernels.name = cells.kernel AND matrix = ? AND night <= ?"
            " GROUP BY night, cells.id, claim, verdict, declared ORDER BY night, cells.id",
            *(self.matrix, up_to),
        )
        counts: dict[tuple[int, Line], dict[tuple[Verdict, bool], int]] = {}
        of: dict[tuple[int, Line], tuple[str, str]] = {}
        for night, digest, key, scenario, claim, kernel, engine, verdict, declared, count in rows:
            place = (night, Line(scenario, claim, kernel, engine))
            of[place] = (digest, key)
            counts.setdefault(place, {})[Verdict(verdict), bool(declared)] = count
        return [Sighting(night, line, *of[night, line], seen) for (night, line), seen in counts.items()]

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self.connection, self.path)

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        return self.connection.execute(statement, values)

    def _rows(self, query: str, *values: object) -> Sequence[tuple[Any, ...]]:
        with trouble(self.path):
            return self.connection.execute(query, values).fetchall()
