"""The text for a mail: its width, its signs, and what it says."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from harness.judge.judge import judge
from harness.judge.verdict import ClaimVerdict, Finding, Found, Judgement, Verdict
from harness.report.text import text_report
from harness.scenario.load import build_scenario
from harness.scenario.yaml_file import parse_yaml
from tests.judge.records import event, record
from tests.report.run_folders import KNOWN, RECORDED, RUNS, VIOLATED, hostile, judged, recorded


@pytest.mark.parametrize("name", RUNS)
def test_it_fits_into_a_mail(name: str) -> None:
    text = text_report(*recorded(name))
    assert max(map(len, text.splitlines())) <= 78
    assert not [sign for sign in text if unicodedata.category(sign)[0] == "C" and sign != "\n"]
    assert "\n\n\n" not in text and "\t" not in text


@pytest.mark.parametrize("name", RUNS)
def test_the_scenario_in_it_is_the_run_s(name: str) -> None:
    record, judgement = recorded(name)
    text = text_report(record, judgement)
    scenario = text[text.index("\ntitle: ") + 1 :]
    assert yaml.safe_load(scenario) == yaml.safe_load((record.folder / "scenario.yaml").read_text())
    assert build_scenario(parse_yaml(Path("again.yaml"), scenario)).title == record.scenario.title


def test_what_led_to_a_wrong_state_is_who_was_held_where() -> None:
    text = text_report(*recorded(VIOLATED))
    assert text.startswith("Violated\n\nscenario: reboot -f while kvm_intel is loading\n")
    assert "VIOLATED: reboot-in-flight-undone" in text
    assert "  FAILED exit: load gave OK, not EBUSY" in text
    head = next(line for line in text.splitlines() if line.strip().startswith("seq"))
    held = next(line for line in text.splitlines() if "# held at in-window" in line)
    assert held.index("#") == head.index("CPU 1")


def test_what_contradicts_is_shown_and_what_is_known_is_said() -> None:
    text = text_report(*recorded(KNOWN))
    assert "VIOLATED (known): system-state-before-kvm-shutdown" in text
    assert "> kvm_reboot system_state=3" in text
    assert "fixed by: 6735150b6997" in text
    assert text.index("VIOLATED") < text.index("CONFIRMED"), "the worst first"


def test_the_command_is_there_and_a_shell_takes_it() -> None:
    text = text_report(*recorded(VIOLATED))
    command = text[text.index("  harness run") : text.index("\ntitle:")].replace("\\\n", " ").split()
    assert " ".join(command) == (
        "harness run reboot-in-flight.yaml --kernel 'debian:6.12 +check-before-register' --engine tcg-vmx"
    )


def test_more_cpus_than_columns_are_a_list() -> None:
    events = [event(cpu, cpu, "on", "return", ret=-5 & (1 << 64) - 1) for cpu in range(8)]
    run = replace(record("  - order: [on, late]\n", events), folder=RECORDED / VIOLATED)
    found = Found(Finding.FAILED, "on failed everywhere", tuple(events))
    text = text_report(run, Judgement((ClaimVerdict(run.scenario.claims[0], Verdict.VIOLATED, (found,)),)))
    assert "        7  CPU 7: < on = -EIO  cpuhp-7" in text
    assert max(map(len, text.splitlines())) <= 78


def test_escape_sequences_do_not_reach_the_mail(tmp_path: Path) -> None:
    folder = hostile(tmp_path / "run")
    record, _ = judged(folder)
    fault = record.fault
    assert fault is not None
    text = text_report(record, judge(record))
    assert "\x1b" not in text and "\x00" not in text
