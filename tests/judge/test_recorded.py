"""Runs that really happened, judged again from their folders (tests/recorded/)."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.judge import judge as judge_command
from harness.errors import Exit, UsageError
from harness.judge.judge import judge
from harness.judge.record import load_record
from harness.judge.verdict import Finding
from harness.observe.port_write import PortWrite

RECORDED = Path(__file__).parent.parent / "recorded"
RUNS = sorted(path.name for path in RECORDED.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", RUNS)
def test_verdicts_are_those_of_the_run(name: str) -> None:
    expected = json.loads((RECORDED / name / "expected.json").read_text())
    found = {claim.use.claim.id: claim.verdict.value for claim in judge(load_record(RECORDED / name)).claims}
    assert found == expected


def test_every_kind_of_verdict_is_among_the_recorded_ones() -> None:
    verdicts = {v for name in RUNS for v in json.loads((RECORDED / name / "expected.json").read_text()).values()}
    assert verdicts >= {"confirmed", "violated", "not exercised"}


def test_known_violation_exits_0_and_shows_what_6_1_did() -> None:
    judgement = judge(load_record(RECORDED / "demo-6.1-known-violation"))
    assert judgement.exit is Exit.CONFIRMED
    (failed,) = [f for claim in judgement.claims for f in claim.findings if f.finding is Finding.FAILED]
    assert "system_state was 3, not 6" in failed.text


def test_mutant_is_violated_by_the_state_of_the_cpus() -> None:
    judgement = judge(load_record(RECORDED / "mutant-cpuhp-nocalls-violated"))
    assert judgement.exit is Exit.VIOLATED
    claim = next(c for c in judgement.claims if c.use.claim.id == "cpuhp-invokes-online-on-each-cpu")
    texts = [found.text for found in claim.findings if found.finding is Finding.FAILED]
    assert "virtualization on at loaded: CPU none; expected: 0, 1, 2, 3" in texts


def test_a_restart_that_a_starved_console_did_not_announce_is_told_by_the_write_that_did_it() -> None:
    """CPU 0 was stopped while it printed, and took the console with it. CPU 3 was behind the OUT, as its RIP says."""
    record = load_record(RECORDED / "vcpu-during-shutdown-7.3-console-starved")
    assert "the kernel had not said that it restarts" in judge(record).claims[0].findings[-1].text
    assert record.resets[1].registers[3]["rip"] == 0xFFFFFFFF8131FA49
    seen = dataclasses.replace(record.resets[1], wrote={3: PortWrite(0x64, 0xFE)})
    assert judge(dataclasses.replace(record, resets={1: seen})).exit is Exit.CONFIRMED


def test_a_warning_about_a_cpu_that_was_being_stopped_is_told_and_not_held_against_kvm() -> None:
    claim = judge(load_record(RECORDED / "reboot-before-cpuhp-7.3-stopped-cpu-woken")).claims[0]
    (told,) = [found for found in claim.findings if "WARNING" in found.text]
    assert (told.finding, "native_smp_send_reschedule" in told.text) == (Finding.HELD, True)


def test_judging_answers_another_question_about_the_same_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(RECORDED / "load-unload-6.12-confirmed", folder)
    scenario = folder / "scenario.yaml"
    scenario.write_text(scenario.read_text().replace("  - register_syscore\n  - register_syscore.return\n", "", 1))
    text = scenario.read_text().replace("'on': all", "'on': none", 1)
    scenario.write_text(text)
    done = CliRunner().invoke(judge_command, [str(folder)], standalone_mode=False)
    assert done.return_value == Exit.VIOLATED
    assert "expected: none" in done.output


def test_a_cut_events_file_is_named_with_its_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(RECORDED / "load-unload-6.12-confirmed", folder)
    events = folder / "events.jsonl"
    events.write_text(events.read_text()[:-20])
    with pytest.raises(UsageError, match=r"events\.jsonl:\d+: not JSON"):
        load_record(folder)


def test_an_incomplete_run_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 1, "kernel": {}}')
    with pytest.raises(UsageError, match="it lacks armed, complete"):
        load_record(tmp_path)


def test_without_its_events_a_run_confirms_nothing_that_is_about_events(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(RECORDED / "load-unload-6.12-confirmed", folder)
    (folder / "events.jsonl").write_text("")
    verdicts = {claim.verdict.value for claim in judge(load_record(folder)).claims}
    assert verdicts == {"not exercised"}


def test_a_reboot_in_flight_is_told_by_who_was_held_where() -> None:
    stock, mutant = (
        load_record(RECORDED / name)
        for name in ("reboot-in-flight-6.12-confirmed", "mutant-check-before-register-violated")
    )
    for run in (stock, mutant):
        assert [(hold.point, hold.symbol, hold.end) for hold in run.holds] == [
            ("in-window", "register_syscore_ops", "released"),
            ("at-reset", "machine_restart", "released"),
        ]
    assert (stock.outcomes["load"].result, mutant.outcomes["load"].result) == ("EBUSY", "OK")
    (failed,) = [f for f in judge(mutant).claims[0].findings if "virtualization on" in f.text]
    assert failed.text == "virtualization on at before-reset: CPU 0, 1, 2, 3; expected: none"


def test_a_release_that_did_not_come_is_missed_in_the_order(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(RECORDED / "reboot-in-flight-6.12-confirmed", folder)
    events = folder / "events.jsonl"
    kept = [line for line in events.read_text().splitlines() if '"released"' not in line]
    events.write_text("".join(line + "\n" for line in kept))
    (claim,) = judge(load_record(folder)).claims
    assert "no event in-window.released" in [found.text for found in claim.findings]


def test_a_deadlock_has_the_stacks_of_both_tasks() -> None:
    (claim,) = judge(load_record(RECORDED / "mutant-cpus-read-lock-hung-confirmed")).claims
    evidence = "\n".join(claim.findings[0].evidence)
    assert "percpu_rwsem_wait" in evidence and "cpu_down_maps_locked" in evidence
