"""Which patches serve as edits."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bench.modules import edits
from harness.errors import UsageError

DIFF = """\
--- a/{file}
+++ b/{file}
@@ -1 +1 @@
-a
+b
"""


def test_only_patches_of_kvm_main_alone_are_edits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = DIFF.format(file="virt/kvm/kvm_main.c")
    (tmp_path / "one.patch").write_text(one)
    (tmp_path / "two.patch").write_text(one + DIFF.format(file="arch/x86/kvm/x86.c"))
    (tmp_path / "other.patch").write_text(DIFF.format(file="arch/x86/kvm/x86.c"))
    monkeypatch.setattr("harness.bench.modules._MUTANTS", tmp_path)
    assert edits() == [tmp_path / "one.patch"]
    (tmp_path / "one.patch").unlink()
    with pytest.raises(UsageError, match=r"no edit to measure with.*kvm_main\.c"):
        edits()


def test_the_project_has_edits_for_many_rounds() -> None:
    assert len(edits()) >= 5
