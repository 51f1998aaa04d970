"""The database: made, brought up to date, refused; and what a full disk leaves of it."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cache import DiskFull
from harness.errors import HostFault, UsageError
from harness.fleet.database import APPLICATION_ID, MIGRATIONS, open_database, transaction
from harness.paths import PROJECT


def test_a_new_database_has_the_newest_version(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "sub" / "x.sqlite")
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("SELECT count(*) FROM nights").fetchone() == (0,)


def test_an_older_one_is_brought_up_to_date_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with open_database(path) as old:
        old.execute("INSERT INTO nights VALUES (7,'m','d','finished','b','e',1,'h','s')")
    old.close()
    newer = (*MIGRATIONS, ("ALTER TABLE nights ADD COLUMN moon TEXT NOT NULL DEFAULT 'full'",))
    connection = open_database(path, newer)
    assert connection.execute("SELECT id, moon FROM nights").fetchall() == [(7, "full")]
    assert connection.execute("PRAGMA user_version").fetchone() == (len(newer),)


def test_a_migration_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    open_database(path).close()
    broken = (*MIGRATIONS, ("CREATE TABLE half (x)", "ALTER TABLE nowhere ADD COLUMN x"))
    with pytest.raises(HostFault, match="no such table: nowhere"):
        open_database(path, broken)
    connection = open_database(path)
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchall() == []


def test_a_newer_one_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    open_database(path, (*MIGRATIONS, ("CREATE TABLE later (x)",))).close()
    before = hashlib.sha256(path.read_bytes()).digest()
    files = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match="was written by a newer harness") as error:
        open_database(path)
    assert f"version {len(MIGRATIONS) + 1}; nothing in it was changed" in error.value.found
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert sorted(tmp_path.iterdir()) == files, "not even a -wal file"


def test_a_newer_one_is_refused_while_its_news_are_in_the_wal_file(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    newer = open_database(path)
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(UsageError, match="was written by a newer harness"):
        open_database(path)


@pytest.mark.parametrize("content", [b"kernels: []\n" * 20, b"SQLite format 3\0 cut"])
def test_other_files_are_refused_and_not_touched(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not an SQLite database"):
        open_database(path)
    assert path.read_bytes() == content


def test_another_program_s_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE music (title)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="another program"):
        open_database(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_file_is_what_a_crash_leaves_and_is_used(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").touch()
    open_database(tmp_path / "x.sqlite").execute("SELECT * FROM nights")


def test_a_damaged_one_is_a_host_fault(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    open_database(path).close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)
    with pytest.raises(HostFault, match="is damaged"):
        open_database(path)


def test_a_transaction_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    connection = open_database(path)
    with pytest.raises(ZeroDivisionError), transaction(connection, path):
        connection.execute("INSERT INTO nights VALUES (7,'m','d','finished','b','e',1,'h','s')")
        _ = 1 // 0
    assert connection.execute("SELECT count(*) FROM nights").fetchone() == (0,)


def test_a_process_that_is_killed_in_a_transaction_leaves_what_was_before(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    script = (
        "import os, sys; from pathlib import Path; from harness.fleet.database import *\n"
        "connection = open_database(path := Path(sys.argv[1]))\n"
        "row = \"INSERT INTO nights VALUES ({},'m','d','finished','b','e',1,'h','s')\"\n"
        "with transaction(connection, path): connection.execute(row.format(1))\n"
        "with transaction(connection, path):\n"
        "    connection.execute(row.format(2)); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], cwd=PROJECT).returncode == -9
    assert open_database(path).execute("SELECT id FROM nights").fetchall() == [(1,)]


def test_a_full_disk_is_told_and_the_database_stays_whole(small_disk: Path) -> None:
    path = small_disk / "x.sqlite"
    connection = open_database(path)
    with pytest.raises(DiskFull, match="the disk is full") as error:
        for number in range(100000):
            with transaction(connection, path):
                row = (number, "m" * 5000)
                connection.execute("INSERT INTO nights VALUES (?,?,'d','finished','b','e',1,'h','s')", row)
    assert str(small_disk) in str(error.value)
    connection.close()
    again = open_database(path)
    (count,) = again.execute("SELECT count(*) FROM nights").fetchone()
    assert count > 10
    assert again.execute("PRAGMA integrity_check").fetchone() == ("ok",)
