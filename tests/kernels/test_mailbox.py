"""Which mails of a thread are the series."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernels.mailbox import Series, read_series

_DIFF = """\
--- a/virt/kvm/kvm_main.c
+++ b/virt/kvm/kvm_main.c
@@ -1,3 +1,3 @@
 one
-two
+%s
 three
"""


def mail(subject: str, change: str = "", parent: str = "", text: str = "Because.\n") -> str:
    """A mail whose id is its subject's; with `change`, one that has a diff."""
    name = "".join(character for character in subject if character.isalnum())
    answers = f"In-Reply-To: <{parent}@example.org>\n" if parent else ""
    body = f"{text}---\n x | 2 +-\n\n{_DIFF % change}-- \n2.39.5\n" if change else text
    return (
        "From a@example.org Mon Nov 23 07:00:00 2026\n"
        "From: A Developer <a@example.org>\nDate: Mon, 23 Nov 2026 07:00:00 +0000\n"
        f"Subject: {subject}\nMessage-ID: <{name}@example.org>\n{answers}\n{body}\n"
    )


def series(tmp_path: Path, *mails: str) -> Series:
    path = tmp_path / "thread.mbox"
    path.write_text("".join(mails))
    return read_series(path)


def places(found: Series) -> list[str]:
    return [f"v{one.version} {one.place}" for one in found.mails]


def test_patches_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    found = series(
        tmp_path,
        mail("[PATCH 2/2] KVM: b", "b"),
        mail("[PATCH 0/2] KVM: both"),
        mail("[PATCH 1/2] KVM: a", "a"),
    )
    assert [one.title for one in found.mails] == ["KVM: a", "KVM: b"]
    assert (found.title, found.notes) == ("KVM: both", ())


@pytest.mark.parametrize("path", ["arch/x86/kvm/../../../../outside.c", "/etc/passwd", "../x.c"])
def test_a_patch_that_leaves_the_tree_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError, match="outside of the kernel's tree"):
        series(tmp_path, mail("[PATCH] KVM: a", "a").replace("virt/kvm/kvm_main.c", path))


def test_replies_and_what_they_propose_are_left_out(tmp_path: Path) -> None:
    found = series(
        tmp_path,
        mail("[PATCH v2] KVM: a", "a"),
        mail("Re: [PATCH v2] KVM: a", "better"),
        mail("RE: [PATCH v2] KVM: a", text="> " + _DIFF.replace("\n", "\n> ")),
        mail("What about this instead", "instead", parent="PATCHv2KVMa"),
    )
    assert [one.patch.subject for one in found.mails] == ["[PATCH v2] KVM: a"]
    assert found.notes == ("3 replies are left out",)


def test_the_newest_version_is_taken(tmp_path: Path) -> None:
    thread = [mail(f"[RFC PATCH v{version} {n}/2] KVM: p{n}", f"{version}{n}") for version in (10, 9) for n in (1, 2)]
    found = series(tmp_path, *thread, mail("[PATCH 1/1] KVM: begun", "x"))
    assert places(found) == ["v10 1/2", "v10 2/2"]
    assert found.notes == ("v10 is taken, and v1, v9 left out",)


def test_a_part_that_is_sent_again_into_the_thread_completes_the_rest(tmp_path: Path) -> None:
    first = [mail(f"[PATCH {n}/3] KVM: p{n}", str(n)) for n in (1, 2, 3)]
    again = mail("[PATCH v2 2/3] KVM: p2", "better", parent="PATCH23KVMp2")
    found = series(tmp_path, *first, again)
    assert places(found) == ["v1 1/3", "v2 2/3", "v1 3/3"]
    assert "1/3 is that of v1: v2 resends only a part" in found.notes
    with pytest.raises(UsageError, match="lacks 1/3, 3/3 of 'KVM: p2'"):
        series(tmp_path, *first, again.replace("PATCH23KVMp2", "elsewhere"))


def test_copies_of_a_mail_count_once(tmp_path: Path) -> None:
    twice = mail("[PATCH 1/2] KVM: a", "a")
    assert places(series(tmp_path, twice, mail("[PATCH 2/2] KVM: b", "b"), twice)) == ["v1 1/2", "v1 2/2"]


def test_a_series_that_is_not_whole(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"thread\.mbox lacks 2/3 of 'KVM: a'"):
        series(tmp_path, mail("[PATCH 1/3] KVM: a", "a"), mail("[PATCH 3/3] KVM: c", "c"))


def test_two_series_in_one_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more than one series") as caught:
        series(tmp_path, *(mail(f"[PATCH {n}/2] {name} {n}", name + str(n)) for name in "xy" for n in (1, 2)))
    assert "1/2 'x 1'" in caught.value.found


def test_a_single_file_of_a_series_is_taken_alone(tmp_path: Path) -> None:
    assert places(series(tmp_path, mail("[PATCH 2/5] KVM: a", "a"))) == ["v1 2/5"]


def test_patches_without_numbers_stay_as_they_stand(tmp_path: Path) -> None:
    found = series(tmp_path, mail("[PATCH] KVM: b", "b"), mail("[PATCH] KVM: a", "a"))
    assert [one.title for one in found.mails] == ["KVM: b", "KVM: a"]


def test_a_fix_on_top_is_not_of_the_series(tmp_path: Path) -> None:
    found = series(tmp_path, mail("[PATCH 1/1] KVM: a", "a"), mail("[PATCH] fix that", "b"))
    assert [one.title for one in found.mails] == ["KVM: a"]
    assert found.notes == ("not of the series, and left out: [PATCH] fix that",)


@pytest.mark.parametrize(
    ("mails", "found"),
    [
        ([mail("[PATCH 0/2] KVM: both"), mail("Re: [PATCH 0/2] KVM: both", "x")], "2 mails, of which 1 are replies"),
        ([mail("Lunch?")], "1 mails, of which 0 are replies and 0 cover letters"),
    ],
)
def test_a_mailbox_without_a_patch(tmp_path: Path, mails: list[str], found: str) -> None:
    with pytest.raises(UsageError, match="has no patch in it") as caught:
        series(tmp_path, *mails)
    assert found in caught.value.found


def test_base_commit_is_read(tmp_path: Path) -> None:
    one = mail("[PATCH] KVM: a", "a").replace("-- \n2.39.5", f"base-commit: {'ab' * 20}\n-- \n2.39.5")
    assert series(tmp_path, one).base == "ab" * 20


def test_git_am_takes_what_is_written(tmp_path: Path) -> None:
    tree = tmp_path / "linux"
    (tree / "virt/kvm").mkdir(parents=True)
    (tree / "virt/kvm/kvm_main.c").write_text("one\ntwo\nthree\n")

    def git(*words: str) -> None:
        name = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *name, *words], cwd=tree, check=True, capture_output=True, timeout=30)

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "base")
    second = mail("[PATCH 2/2] KVM: b", "end").replace("-two", "-TWO")
    (tmp_path / "am.mbox").write_bytes(series(tmp_path, second, mail("[PATCH 1/2] KVM: a", "TWO")).mbox())
    git("am", str(tmp_path / "am.mbox"))
    assert (tree / "virt/kvm/kvm_main.c").read_text() == "one\nend\nthree\n"
    assert read_series(tmp_path / "am.mbox").mails[1].title == "KVM: b"
