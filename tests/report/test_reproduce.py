"""The command that does a run again, from what its folder says of the kernel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.judge.record import RunRecord
from harness.report.reproduce import command, command_line, qemu_script, qemu_version
from tests.judge.records import record
from tests.report.run_folders import VIOLATED, copied, recorded


def with_kernel(**kernel: Any) -> RunRecord:
    whole = {"spec": "debian:6.12", "label": "named otherwise", "release": "6.12.95", "version": "6.12.95", **kernel}
    return replace(record("  - order: [on, late]\n"), kernel=whole)


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ({}, "--kernel debian:6.12 --engine tcg-svm"),
        (
            {"provenance": {"patches": [{"file": "patches/mutants/6.12/a-b.patch"}], "modules_only": "kvm"}},
            "--kernel 'debian:6.12 +a-b' --engine tcg-svm",
        ),
        (
            {"provenance": {"patches": [{"file": "/home/me/my series.mbox"}], "modules_only": "kvm"}},
            "--kernel debian:6.12 --engine tcg-svm --patch '/home/me/my series.mbox' --modules-only kvm",
        ),
        (
            {
                "spec": "debian-source:7.3+tdx",
                "provenance": {
                    "config": ["tinyconfig", "aa", "bb"],
                    "config_fragments": [
                        {"name": "small", "sha256": "aa"},
                        {"name": "tdx", "sha256": "bb"},
                        {"name": "lockdep", "sha256": "cc"},
                    ],
                },
            },
            "--kernel debian-source:7.3+tdx --engine tcg-svm --config lockdep",
        ),
    ],
)
def test_command(kernel: dict[str, Any], expected: str) -> None:
    assert command_line(command(with_kernel(**kernel), "a.yaml")) == f"harness run a.yaml {expected}"


def test_the_gdbstub_is_asked_for_where_it_held() -> None:
    run, _ = recorded("mutant-cpus-read-lock-hung-confirmed")
    assert command_line(command(run)).endswith("--holds gdbstub")
    assert f"{run.folder}/scenario.yaml" in command(run)
    run, _ = recorded(VIOLATED)
    assert "--holds" not in command(run)


def test_a_folder_without_its_qemu_command_says_nothing_of_it(tmp_path: Path) -> None:
    folder = copied(VIOLATED, tmp_path / "run")
    assert qemu_script(folder) == ""
    (folder / "qemu.sh").write_text("#!/bin/sh\nqemu\n")
    assert qemu_script(folder) == "#!/bin/sh\nqemu\n"
    assert qemu_version(folder) == "11.1.3"
