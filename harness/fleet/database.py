"""The SQLite file with the results of every night: its schema, older ones brought up to date, newer ones left alone.

`PRAGMA user_version` is the number of migrations that a file has been through, `application_id` says that it is ours.
Both are read out of the file's header before SQLite gets to see it: even a look would make a -wal file beside it.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.cache import disk_full
from harness.errors import HostFault, UsageError

APPLICATION_ID = 0x564F4831  # "VOH1"

# https://www.sqlite.org/fileformat.html, "The Database Header"
_MAGIC = b"SQLite format 3\0"
_USER_VERSION, _APPLICATION_ID = 60, 68

_SHARED_BYTES = 32768  # what SQLite allocates at a time in a -shm file

_BUSY_S = 30.0  # a summary may be reading

# One entry per version, a statement each. A file of an older harness goes through those that it lacks.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE nights (
            id INTEGER PRIMARY KEY,
            matrix TEXT NOT NULL,           -- name of the matrix
            digest TEXT NOT NULL,           -- of the plan
            state TEXT NOT NULL CHECK (state IN ('unfinished', 'finished', 'abandoned')),
            began TEXT NOT NULL,            -- times are ISO 8601 with the zone
            ended TEXT,
            pid INTEGER NOT NULL,           -- who runs it, or did last
            host TEXT NOT NULL,
            since TEXT NOT NULL             -- when that process took it up
        )""",
        """CREATE TABLE kernels (
            night INTEGER NOT NULL REFERENCES nights,
            name TEXT NOT NULL,
            spec TEXT NOT NULL,             -- frozen: a branch is its commit
            revision TEXT NOT NULL,         -- commit, or version of the package
            identity TEXT NOT NULL,         -- JSON
            key TEXT NOT NULL,              -- of the built kernel, '' before
            release TEXT NOT NULL,
            exit INTEGER,                   -- why it could not be had, as an exit status
            fault TEXT NOT NULL DEFAULT '', -- the same in words, with the log
            PRIMARY KEY (night, name)
        ) WITHOUT ROWID""",
        """CREATE TABLE cells (
            id INTEGER PRIMARY KEY,
            night INTEGER NOT NULL REFERENCES nights,
            scenario TEXT NOT NULL,
            digest TEXT NOT NULL,           -- of the scenario
            kernel TEXT NOT NULL,
            engine TEXT NOT NULL,
            UNIQUE (night, scenario, kernel, engine)
        )""",
        """CREATE TABLE starts (             -- of attempts that are not recorded: they run, or were killed
            cell INTEGER NOT NULL REFERENCES cells,
            number INTEGER NOT NULL,
            count INTEGER NOT NULL,
            PRIMARY KEY (cell, number)
        ) WITHOUT ROWID""",
        """CREATE TABLE attempts (
            id INTEGER PRIMARY KEY,
            cell INTEGER NOT NULL REFERENCES cells,
            number INTEGER NOT NULL,
            ended TEXT NOT NULL,
            seconds REAL NOT NULL,
            folder TEXT NOT NULL,           -- of the run, '' for one that came to none
            exit INTEGER NOT NULL,
            fault TEXT NOT NULL,
            UNIQUE (cell, number)
        )""",
        """CREATE TABLE verdicts (
            attempt INTEGER NOT NULL REFERENCES attempts,
            claim TEXT NOT NULL,
            verdict TEXT NOT NULL,
            known TEXT,                     -- the verdict that the scenario declares
            declared INTEGER NOT NULL,      -- whether the verdict is as declared
            evidence TEXT NOT NULL,
            PRIMARY KEY (attempt, claim)
        ) WITHOUT ROWID""",
        "CREATE INDEX cells_by_kernel ON cells (scenario, kernel, engine)",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ),
)


def open_database(path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> sqlite3.Connection:
    """Opens the database, made when it is missing, brought up to date when it is older.

    Raises UsageError for a file that is none of ours, is newer, or lies where it cannot be written; it is then as it
    was. HostFault when the disk is full or the file is damaged.
    """
    _check_header(path, len(migrations))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    except (OSError, sqlite3.OperationalError) as error:
        raise UsageError(
            f"cannot open {path}: {error}", hint="name a file that you may write as `results`"
        ) from error
    try:
        with trouble(path):
            # Written ahead and synced at each commit: what has been recorded survives a power cut.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            _migrate(connection, path, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_header(path: Path, version: int) -> None:
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if not header:  # what a crash right after it was made leaves
        return
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise UsageError(f"{path} is not an SQLite database", hint="name another file as `results`")
    (application,) = struct.unpack_from(">I", header, _APPLICATION_ID)
    (found,) = struct.unpack_from(">I", header, _USER_VERSION)
    if application != APPLICATION_ID and (application or found or _has_tables(path)):
        raise UsageError(f"{path} is a database of another program", hint="name another file as `results`")
    _refuse_newer(path, found, version)


def _has_tables(path: Path) -> bool:
    """What most programs' databases have: neither an application nor a version."""
    with trouble(path), contextlib.closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        return bool(connection.execute("SELECT 1 FROM sqlite_master").fetchall())


def _refuse_newer(path: Path, found: int, version: int) -> None:
    if found > version:
        raise UsageError(
            f"{path} was written by a newer harness",
            expected=f"version {version} or older",
            found=f"version {found}; nothing in it was changed",
            hint="update the harness, or name another file as `results`",
        )


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]]) -> None:
    with transaction(connection, path):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        _refuse_newer(path, version, len(migrations))  # when the news are not in the header yet, but in the -wal file
        for statements in migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        if version < len(migrations):
            connection.execute(f"PRAGMA user_version = {len(migrations)}")
    if version < len(migrations):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the header says the version


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """All of it or nothing. Raises what `trouble` raises."""
    with trouble(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite rolls back by itself when the disk is full
                connection.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def trouble(path: Path) -> Iterator[None]:
    """Turns what SQLite says of disks and files into DiskFull or HostFault."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL or _no_room(path):
            raise disk_full(f"{path.name}: {error}", path.parent) from error
        raise HostFault(f"{path}: {error}", hint="is another program at work on it?") from error
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        raise HostFault(f"{path} is damaged: {error}", hint="keep it for analysis, and name another file") from error


def _no_room(path: Path) -> bool:
    """The memory that a -wal file is shared by is a file too, and SQLite calls its failure an I/O error."""
    return shutil.disk_usage(path.parent).free < _SHARED_BYTES
