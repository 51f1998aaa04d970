"""What a run's CPUs were in truth: said in every report where it matters, and nowhere else."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from harness.judge.judge import judge
from harness.machine.host import Host
from harness.report.batch import Batch
from harness.report.document import result_schema
from harness.report.formats import FORMATS
from harness.report.html import run_page
from harness.report.result import RunResult, beneath
from harness.report.terminal import print_results
from harness.report.text import text_report
from tests.report import runs
from tests.report.run_folders import CONFIRMED, copied, judged

METAL = Host("AuthenticAMD", "AMD EPYC 9654", "6.12.95", "", "Supermicro H13SSL-N", {"kvm_amd": "1"})
GUEST = dataclasses.replace(METAL, hypervisor="KVM")
LAB = dataclasses.replace(METAL, cpu="QEMU TCG CPU version 2.5+", hypervisor="QEMU TCG")
SAID = "on an emulated host (QEMU TCG)"


@pytest.mark.parametrize(
    ("engine", "host", "said"),
    [
        ("kvm", METAL, ""),
        ("kvm", GUEST, "on a host that is itself a guest (KVM)"),
        ("kvm", LAB, SAID),
        ("kvm", None, ""),  # a run of before
        ("tcg-svm", LAB, ""),  # the guest's CPUs are TCG's on any host
    ],
)
def test_it_is_said_where_the_guest_s_cpus_are_the_host_s(engine: str, host: Host | None, said: str) -> None:
    assert beneath(engine, host) == said


def run_on(folder: Path, engine: str) -> Path:
    copied(CONFIRMED, folder)
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "engine": engine, "host": LAB.to_json()}))
    return folder


@pytest.mark.parametrize(("engine", "said"), [("kvm", True), ("tcg-svm", False)])
def test_every_report_says_it(engine: str, said: bool, tmp_path: Path) -> None:
    record, judgement = judged(run_on(tmp_path / "run", engine))
    result = RunResult.of(record, judgement, 1.5)
    assert (SAID in run_page(record, judgement)) is said
    assert (SAID in text_report(record, judgement).replace("\n          ", " ")) is said
    for name in ("junit", "ktap", "kcidb"):
        rendered = FORMATS[name].render(Batch([result], origin="test"))
        assert (SAID in rendered) is said, name
    console = Console(width=300, record=True, file=io.StringIO())
    print_results(console, [result], verbose=True)
    assert (console.export_text().count(SAID) == 1 + len(judgement.claims)) is said


def test_the_document_has_the_host_and_follows_the_schema(tmp_path: Path) -> None:
    record, _ = judged(run_on(tmp_path / "run", "kvm"))
    document = json.loads(json.dumps(RunResult.of(record, judge(record), 1.5).to_json()))
    assert document["host"]["emulated"] is True
    jsonschema.Draft202012Validator(result_schema()).validate(document)
    assert "host" not in runs.confirmed().to_json()
