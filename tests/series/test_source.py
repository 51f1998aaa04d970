"""Where a series comes from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.errors import HostFault, UsageError
from harness.series.source import _ID, series_of
from tests.kernels.test_mailbox import mail

ID = "20240425233951.3344485-3-seanjc@google.com"


@pytest.mark.parametrize(
    "text",
    [
        ID,
        f"<{ID}>",
        f"https://lore.kernel.org/all/{ID}/",
        f"https://lore.kernel.org/kvm/{ID}/T/#u",
        f"http://lore.kernel.org/r/{ID}",
        f"https://patch.msgid.link/{ID}",
    ],
)
def test_message_ids(text: str) -> None:
    match = _ID.fullmatch(text)
    assert match is not None
    assert match[1] == ID


@pytest.mark.parametrize("text", ["thread.mbox", "patches/0001-fix.patch", "/tmp/a@b/c.patch", "a@"])
def test_no_message_ids(text: str) -> None:
    assert _ID.fullmatch(text) is None


def test_patch_files_are_one_series_in_the_order_given(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.patch" for n in (2, 1)]
    for file in files:
        file.write_text(mail(f"[PATCH {file.stem}/2] KVM: p{file.stem}", file.stem))
    series = series_of([str(file) for file in files])
    assert [one.title for one in series.mails] == ["KVM: p2", "KVM: p1"]


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"nix\.mbox cannot be read"):
        series_of(["nix.mbox"])


def test_a_message_id_needs_b4(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(HostFault, match="b4 is not installed") as caught:
        series_of([f"<{ID}>"])
    assert f"https://lore.kernel.org/all/{ID}/t.mbox.gz" in caught.value.hint


def test_b4_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # b4 keeps threads
    with pytest.raises(HostFault, match=f"b4 did not get the thread of {ID}") as caught:
        series_of([ID])
    assert "t.mbox.gz" in caught.value.hint
