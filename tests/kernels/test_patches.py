"""Patches in every form that people have them, and what is said about those that do not work."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernels.patches import apply, read_patches

_DIFF = """\
--- a/virt/kvm/kvm_main.c
+++ b/virt/kvm/kvm_main.c
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
"""
_NEW_FILE = """\
diff --git a/virt/kvm/new.c b/virt/kvm/new.c
new file mode 100644
index 000000000000..5626abf0f72e
--- /dev/null
+++ b/virt/kvm/new.c
@@ -0,0 +1 @@
+one
"""
_RENAME = """\
diff --git a/virt/kvm/kvm_main.c b/virt/kvm/main.c
similarity index 100%
rename from virt/kvm/kvm_main.c
rename to virt/kvm/main.c
"""


def _mail(subject: str, body: str, headers: str = "") -> str:
    sender = "From: A Developer <a@example.org>\nDate: Mon, 3 Nov 2025 10:00:00 +0000\n"
    return f"From {'1234567890' * 4} Mon Sep 17 00:00:00 2001\n{sender}Subject: {subject}\n{headers}\n{body}\n"


def _git_mail(subject: str, diff: str) -> str:
    return _mail(subject, f"Why it is done.\n---\n virt/kvm/x.c | 2 +-\n\n{diff}-- \n2.39.5\n")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    file = tmp_path / "tree/virt/kvm/kvm_main.c"
    file.parent.mkdir(parents=True)
    file.write_text("one\ntwo\nthree\n")
    return tmp_path / "tree"


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(20, "patch")


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_plain_diff(tmp_path: Path, tree: Path, deadline: Deadline) -> None:
    [patch] = read_patches([_write(tmp_path / "fix.patch", _DIFF)])
    assert (patch.subject, patch.files) == ("fix.patch", ("virt/kvm/kvm_main.c",))
    apply(patch, tree, deadline)
    assert (tree / "virt/kvm/kvm_main.c").read_text() == "one\nTWO\nthree\n"


def test_mailbox_with_several(tmp_path: Path, tree: Path, deadline: Deadline) -> None:
    cover = _mail("[PATCH 0/2] cover", "No diff here.\n")
    mailbox = cover + _git_mail("[PATCH 1/2] loud", _DIFF) + _git_mail("[PATCH 2/2]\n more", _NEW_FILE)
    loud, more = read_patches([_write(tmp_path / "series.mbox", mailbox)])
    assert (loud.subject, more.subject) == ("[PATCH 1/2] loud", "[PATCH 2/2] more")
    for patch in (loud, more):
        apply(patch, tree, deadline)
    assert (tree / "virt/kvm/new.c").read_text() == "one\n"


def test_mail_from_an_archive_is_decoded(tmp_path: Path, tree: Path, deadline: Deadline) -> None:
    headers = "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n"
    mail = _mail("[PATCH] encoded", base64.encodebytes(_DIFF.encode()).decode(), headers)
    [patch] = read_patches([_write(tmp_path / "raw.mbox", mail)])
    apply(patch, tree, deadline)
    assert "TWO" in (tree / "virt/kvm/kvm_main.c").read_text()


def test_quilt_series(tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    folder.mkdir()
    _write(folder / "a.patch", _DIFF)
    _write(folder / "b.patch", _NEW_FILE)
    _write(folder / "series", "# order\nb.patch\na.patch -p1  # last\n\n")
    assert [patch.subject for patch in read_patches([folder])] == ["b.patch", "a.patch"]
    assert read_patches([folder / "series"]) == read_patches([folder])


def test_rename_touches_both_names(tmp_path: Path, tree: Path, deadline: Deadline) -> None:
    [patch] = read_patches([_write(tmp_path / "rename.patch", _RENAME)])
    assert patch.files == ("virt/kvm/kvm_main.c", "virt/kvm/main.c")
    apply(patch, tree, deadline)
    assert [path.name for path in (tree / "virt/kvm").iterdir()] == ["main.c"]


def test_only_keeps_the_relevant_files(tmp_path: Path) -> None:
    documented = _DIFF + _DIFF.replace("virt/kvm/kvm_main.c", "Documentation/virt/kvm/locking.rst")
    [patch] = read_patches([_write(tmp_path / "x.patch", documented)])
    assert len(patch.files) == 2
    assert patch.only(lambda name: name.startswith("virt")).files == ("virt/kvm/kvm_main.c",)


def test_hash_is_of_the_change_not_of_the_mail(tmp_path: Path) -> None:
    first, again = (
        read_patches([_write(tmp_path / f"{subject}.patch", _git_mail(subject, _DIFF))])[0]
        for subject in ("v1", "v2")
    )
    other = read_patches([_write(tmp_path / "v3.patch", _DIFF.replace("TWO", "2"))])[0]
    assert first.sha256 == again.sha256 != other.sha256


def test_patch_that_does_not_apply_names_patch_file_and_hunk(tmp_path: Path, tree: Path, deadline: Deadline) -> None:
    [patch] = read_patches([_write(tmp_path / "stale.patch", _DIFF.replace("-two", "-zwei"))])
    with pytest.raises(UsageError, match=r"stale\.patch does not apply: virt/kvm/kvm_main\.c, hunk 1 \(line 1\)"):
        apply(patch, tree, deadline)


def test_context_must_match(tmp_path: Path, tree: Path, deadline: Deadline) -> None:
    [patch] = read_patches([_write(tmp_path / "fuzzy.patch", _DIFF.replace(" one\n", " ONE\n"))])
    with pytest.raises(UsageError, match=r"kvm_main\.c, hunk 1"):
        apply(patch, tree, deadline)


def test_patch_that_is_applied_already_does_not_apply(tmp_path: Path, tree: Path, deadline: Deadline) -> None:
    [patch] = read_patches([_write(tmp_path / "twice.patch", _DIFF)])
    apply(patch, tree, deadline)
    with pytest.raises(UsageError, match=r"virt/kvm/kvm_main\.c: it is there already"):
        apply(patch, tree, deadline)


def test_patch_for_a_missing_file_names_it(tmp_path: Path, tree: Path, deadline: Deadline) -> None:
    shutil.rmtree(tree / "virt")
    [patch] = read_patches([_write(tmp_path / "lost.patch", _DIFF)])
    with pytest.raises(UsageError, match=r"virt/kvm/kvm_main\.c: there is no such file"):
        apply(patch, tree, deadline)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read: No such file"),
        ("", "is not a patch"),
        ("A mail about patches.\n", "is not a patch"),
        ("\x7fELF\0\0", "is not a patch"),
    ],
)
def test_what_is_not_a_patch_is_a_usage_error(tmp_path: Path, content: str | None, what: str) -> None:
    path = tmp_path / "x.patch"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=what):
        read_patches([path])


@pytest.mark.parametrize(
    ("series", "what"),
    [
        (None, "series.*cannot be read"),
        ("# nothing\n", "names no patch"),
        ("a.patch -p0\n", "only -p1 is supported"),
        ("missing.patch\n", "missing.patch cannot be read"),
    ],
)
def test_bad_series_is_a_usage_error(tmp_path: Path, series: str | None, what: str) -> None:
    if series is not None:
        _write(tmp_path / "series", series)
    with pytest.raises(UsageError, match=what):
        read_patches([tmp_path])
