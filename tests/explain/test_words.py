"""Every word that can be explained, and what is said about some."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.explain import claims, functions, keys, mutants
from harness.explain.explanation import Explanation
from harness.explain.kernels import homes, is_somewhere, stock_kernels
from harness.explain.seen import last_seen
from harness.explain.words import explain
from harness.kernels.model import BuildOptions
from harness.kernels.resolve import resolve
from harness.paths import PROJECT
from harness.scenario.functions import REAL_NAMES
from harness.scenario.load import reference_claims
from tests.report.runs import RECORDED


@pytest.fixture(autouse=True)
def recorded_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(RECORDED))


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    stock_kernels.cache_clear()


def only(word: str, kind: str) -> Explanation:
    return next(found for found in explain(word) if found.kind == kind)


def lines(found: Explanation, heading: str) -> str:
    return "\n".join(line for section in found.sections if section.heading == heading for line in section.lines)


def test_every_step_expectation_and_key_is_explained_with_what_it_takes() -> None:
    for name in keys.steps():
        assert keys.explain_step(name).text
    for name in keys.expectations():
        assert "keys" in {section.heading for section in keys.explain_expectation(name).sections}
    for name in keys.every_key():
        found = keys.explain_key(name)
        assert re.search(r": \S.* \[.+\]$", found.sections[0].lines[0]), name
    for name in keys.platform_events():
        assert keys.explain_platform_event(name).sections


def test_every_claim_has_what_decides_it_and_a_place_in_the_documentation() -> None:
    text = (PROJECT / "docs" / "claims.md").read_text()
    for name, claim in reference_claims().items():
        found = claims.explain_claim(name)
        assert lines(found, "decided by"), name
        if claim.number:
            assert lines(found, "read more") == f"docs/claims.md#{claim.number}-{name}"
            assert f"### {claim.number}. {name}\n" in text


def test_every_mutant_names_its_claims_and_its_story() -> None:
    for name in mutants.mutants():
        found = mutants.explain_mutant(name)
        assert lines(found, "claims that should notice"), name
        assert len(found.text) > 40 and "Mutant:" not in found.text and "Subject:" not in found.text, name


def test_a_mutant_changes_the_function_that_its_lines_are_in() -> None:
    assert lines(only("enable-failure-errno-lost", "mutant"), "functions") == "kvm_enable_virtualization_cpu"
    assert "kvm_online_cpu" in lines(only("online-swallows-error", "mutant"), "functions")


def test_a_claim_says_how_it_is_decided_known_and_violated() -> None:
    found = only("check-after-register", "claim")
    decided = lines(found, "decided by")
    assert "races/reboot-during-load: " in decided
    assert "    order: [syscore_shutdown.return, enabled.released, register_syscore.return, " in decided
    assert "on debian:6.12 +check-before-register: violated" in lines(found, "known")
    assert "check-before-register (6.12, 7.3)" in lines(found, "mutants that should violate it")
    assert explain("12") == [found]


def test_a_claim_of_a_scenario_of_its_own_is_known_too() -> None:
    assert "hotplug: " in lines(only("hotplug-follows", "claim"), "decided by")


@pytest.mark.usefixtures("empty_cache")
def test_a_function_has_its_names_and_who_speaks_of_it() -> None:
    found = only("vendor_enable", "function")
    assert "svm_hardware_enable() on kernels <6.12 with SVM" in lines(found, "names")
    assert "load-unload" in lines(found, "traced by")
    held = only("register_syscore()", "function")
    assert "races/reboot-during-load" in lines(held, "held by")
    shutdown = only("kvm_shutdown", "function")
    assert 'system_state: "@system_state:u32"' in lines(shutdown, "fetched as")
    assert "check-after-register: " in lines(shutdown, "claims")
    assert "shutdown-does-nothing (6.12, 7.3)" in lines(shutdown, "mutants that touch it")


@pytest.mark.usefixtures("empty_cache")
def test_the_kernels_own_name_leads_to_the_scenarios() -> None:
    for name, reals in REAL_NAMES.items():
        for real in reals:
            if real.symbol != name:
                assert only(real.symbol, "function").text == f"Scenarios call it {name}."


@pytest.mark.usefixtures("empty_cache")
def test_events_of_a_function_are_those_of_a_real_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = lines(only("kvm_online_cpu", "function"), "seen in")
    assert str(RECORDED) in seen and "→ kvm_online_cpu" in seen and "← kvm_online_cpu = 0" in seen
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "none"))
    assert not lines(only("kvm_online_cpu", "function"), "seen in")


def test_a_run_that_is_going_on_is_no_trouble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").write_text('{"boot": 1, "seq": 2, "name": "kvm_exit", "ph')
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path))
    assert list(last_seen("kvm_exit")) == []


@pytest.mark.network
def test_a_function_lives_where_the_kernels_of_the_cache_have_it() -> None:
    resolve("debian:6.12", BuildOptions(), Deadline.after(600, "debian:6.12"))
    stock_kernels.cache_clear()
    of_612 = {
        symbol: [h for h in homes([symbol]) if h.startswith("debian:6.12 ")]
        for symbol in ("kvm_shutdown", "kvm_reboot")
    }
    assert of_612["kvm_shutdown"][0].endswith("kvm_shutdown() in kvm")
    assert of_612["kvm_reboot"][0].endswith("nowhere: not there, or inlined")
    assert is_somewhere("svm_enable_virtualization_cpu") and not is_somewhere("no_such_function_at_all")
    assert functions.is_function("svm_set_msr") and only(
        "svm_set_msr", "function"
    )  # which the project never mentions


def test_a_word_of_several_kinds_has_them_all() -> None:
    assert {found.kind for found in explain("virt")} == {"expectation", "key"}


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("kvm_shutdwn", "kvm_shutdown"),
        ("chek-after-register", "check-after-register"),
        ("hlod", "hold"),
        ("machine.cpus.feat_ctl", "machine.cpu.feat_ctl"),
    ],
)
def test_an_unknown_word_has_neighbours(word: str, nearest: str) -> None:
    with pytest.raises(UsageError, match="nothing is known of") as caught:
        explain(word)
    assert nearest in caught.value.hint.split(", ")
