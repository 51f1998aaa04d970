"""Matrix files: what they mean, and each fault at its line before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from harness.errors import ScenarioError, UsageError
from harness.fleet.matrix import Exclusion, load_matrix, matrix_schema
from harness.fleet.plan import make_plan
from harness.machine.engine import Engine, by_name
from harness.paths import PROJECT
from harness.scenario.machine import MachineSection
from tests.fleet.site import RUNS

GREEN = RUNS["green"] / "scenario.yaml"
HEAD = f"kernels: [debian:6.12]\nscenarios: [{GREEN}]\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "nightly.yaml"
    path.write_text(text)
    return path


def choose(name: str, machine: MachineSection) -> Engine:
    return by_name("tcg-svm" if name == "auto" else name, "")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("kernels: [}", 1, "not YAML"),
        ("- debian:6.12\n", 1, "a matrix is a mapping"),
        ("kernels: [debian:6.12]\n", 1, "'scenarios' is missing"),
        (f"scenarios: [{GREEN}]\nkernels: []\n", 2, "at least 1 item"),
        (HEAD + "repeet: 2\n", 3, "unknown key 'repeet'\n  try: did you mean 'repeat'?"),
        (HEAD + "repeat: 0\n", 3, "greater than or equal to 1"),
        (HEAD + "deadline: tonight\n", 3, "is not a duration"),
        (HEAD + "engines: [tcg-smv]\n", 3, "unknown engine 'tcg-smv'\n  try: did you mean 'tcg-svm'?"),
        (HEAD + "repeat: zero\n", 3, "repeat: takes a whole number, not 'zero'"),
        (HEAD + "jobs: many\n", 3, "jobs: 'many' is neither a number of runs, from 1 on, nor auto"),
        (HEAD + "jobs: 0\n", 3, "jobs: 0 is neither"),
        (f"scenarios: [{GREEN}]\nkernels:\n  - debian:6.12\n  - ubuntu:6.12\n", 4, "unknown kernel source"),
        (f"scenarios: [{GREEN}]\nkernels:\n  - debian:6.12 +no-such\n", 3, "no mutant 'no-such' of debian:6.12"),
        (f"scenarios: [{GREEN}]\nkernels:\n  - debian:nowhere\n", 3, "neither a version nor a suite"),
        (f"scenarios: [{GREEN}]\nkernels:\n  - {{kernel: debian:6.12, config: [kvm]}}\n", 3, "has the configuration"),
        (f"scenarios: [{GREEN}]\nkernels:\n  - {{kernel: debian:6.12, patches: [x.mbox]}}\n", 3, "cannot be read"),
        (f"scenarios: [{GREEN}]\nkernels:\n  - {{kernal: debian:6.12}}\n", 3, "unknown key"),
        (f"scenarios: [{GREEN}]\nkernels:\n  - debian:6.12\n  - debian:6.12\n", 4, "stands here twice"),
        ("kernels: [debian:6.12]\nscenarios:\n  - 'a**b'\n", 3, "no scenario is meant"),
        ("kernels: [debian:6.12]\nscenarios: [~nobody-of-that-name/x.yaml]\n", 2, "home"),
        ("kernels: [debian:6.12]\nscenarios: x.yaml\n", 2, "takes a list, not 'x.yaml'"),
        (HEAD + "document: {}\n", 3, "unknown key 'document'"),
        ("kernels: [debian:6.12]\nscenarios:\n  - nowhere/*.yaml\n", 3, "no scenario is meant by 'nowhere/*.yaml'"),
    ],
)
def test_a_fault_is_told_at_its_line(text: str, line: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as error:
        load_matrix(written(tmp_path, text))
    assert f"nightly.yaml:{line}: " in str(error.value)
    assert said in str(error.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = f"kernels: [ubuntu:1, debian:nowhere]\nscenarios: [{GREEN}]\nengines: [x]\n"
    with pytest.raises(ScenarioError) as error:
        load_matrix(written(tmp_path, text))
    assert "nowhere" in error.value.evidence
    with pytest.raises(UsageError, match="cannot read"):
        load_matrix(tmp_path / "absent.yaml")


def test_a_fault_in_a_scenario_is_told_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("title: x\nsteps: []\n")
    with pytest.raises(ScenarioError, match=r"own\.yaml:\d+: "):
        load_matrix(written(tmp_path, "kernels: [debian:6.12]\nscenarios: [own.yaml]\n"))


def test_defaults_and_names(tmp_path: Path) -> None:
    (tmp_path / "fix.patch").write_text("--- a/virt/kvm/x.c\n+++ b/virt/kvm/x.c\n@@ -1 +1 @@\n-a\n+b\n")
    own = "{kernel: debian:6.12, patches: [fix.patch], modules_only: kvm}"
    text = HEAD.replace("[debian:6.12]", f'[debian:6.12, "debian:6.12 +state-check-deleted", {own}]')
    matrix = load_matrix(written(tmp_path, text))
    assert [entry.label for entry in matrix.kernels] == [
        "debian:6.12",
        "debian:6.12 +state-check-deleted",
        "debian:6.12 +fix",
    ]
    spec, options = matrix.sources["debian:6.12 +state-check-deleted"]
    assert (spec, options.modules_only, options.patches[0].stem) == ("debian:6.12", "kvm", "state-check-deleted")
    assert matrix.sources["debian:6.12 +fix"][1].patches == (tmp_path / "fix.patch",)
    assert (matrix.name, matrix.database) == ("nightly", tmp_path / "nightly.sqlite")
    assert (matrix.repeat, matrix.retry, matrix.engines) == (1, 1, ["auto"])


def test_globs_mean_scenarios_and_not_the_list_of_claims(tmp_path: Path) -> None:
    text = f"kernels: [debian:6.12]\nscenarios: [{PROJECT}/scenarios/*.yaml, {PROJECT}/scenarios/demo.yaml]\n"
    names = [Path(name).name for name in load_matrix(written(tmp_path, text)).loaded]
    assert "claims" not in names
    assert names.count("demo") == 1
    assert len(names) > 10


def test_scenarios_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "load.yaml").write_text(GREEN.read_text())
    matrix = load_matrix(written(tmp_path, "kernels: [debian:6.12]\nscenarios: ['**/load.yaml']\n"))
    assert list(matrix.loaded) == ["a/load", "b/load"]


def test_the_plan_is_the_product_without_what_is_excluded(tmp_path: Path) -> None:
    text = HEAD.replace("debian:6.12", "debian:6.1, debian:6.12") + "engines: [tcg-svm, tcg-vmx, auto]\n"
    whole = make_plan(load_matrix(written(tmp_path, text)), choose)
    assert len(whole.cells) == 2 * 2, "auto is one of the two that are named"
    text += "exclude: [{kernel: debian:6.1, engine: tcg-vmx, why: too old}]\n"
    plan = make_plan(load_matrix(written(tmp_path, text)), choose)
    assert (len(plan.cells), plan.excluded) == (3, 1)
    assert {cell.engine for cell in plan.cells if cell.kernel == "debian:6.1"} == {"tcg-svm"}
    assert plan.digest != whole.digest


def test_an_exclusion_must_exclude_something_and_leave_something(tmp_path: Path) -> None:
    matrix = load_matrix(written(tmp_path, HEAD + "exclude:\n  - kernel: debian:7.*\n"))
    with pytest.raises(ScenarioError, match=r"nightly\.yaml:4: this excludes nothing"):
        make_plan(matrix, choose)
    matrix = load_matrix(written(tmp_path, HEAD + "exclude: [{}]\n"))
    with pytest.raises(UsageError, match="nothing is left"):
        make_plan(matrix, choose)


def test_exclusions_are_patterns_of_whole_names() -> None:
    rule = Exclusion(kernel="debian:6.*", scenario="*/tdx/*")
    assert rule.covers("debian:6.12", "scenarios/tdx/bring-up", "tcg-vmx")
    assert not rule.covers("debian:7.3", "scenarios/tdx/bring-up", "tcg-vmx")
    assert not rule.covers("debian:6.12", "scenarios/demo", "tcg-vmx")


def test_engines_that_lack_what_a_scenario_needs_are_left_out_but_one_remains(tmp_path: Path) -> None:
    text = f"kernels: [debian:6.12]\nscenarios: [{PROJECT}/scenarios/tdx/bring-up.yaml]\n"
    both = make_plan(load_matrix(written(tmp_path, text + "engines: [tcg-svm, tcg-vmx]\n")), choose)
    assert ([cell.engine for cell in both.cells], both.unfit) == (["tcg-vmx"], 1)
    alone = make_plan(load_matrix(written(tmp_path, text + "engines: [tcg-svm]\n")), choose)
    assert [cell.engine for cell in alone.cells] == ["tcg-svm"], "that it is not exercised has to be seen"


def test_the_digest_follows_what_is_run_and_not_how(tmp_path: Path) -> None:
    scenario = tmp_path / "own.yaml"
    scenario.write_text(GREEN.read_text())
    head = "kernels: [debian:6.12]\nscenarios: [own.yaml]\n"

    def digest(text: str = "") -> str:
        return make_plan(load_matrix(written(tmp_path, head + text)), choose).digest

    before = digest()
    assert digest("jobs: 2\nretry: 3\ndeadline: 5min\n") == before
    assert digest("repeat: 2\n") != before
    patch = tmp_path / "fix.patch"
    digests = []
    for line in ("+b", "+c"):
        patch.write_text(f"--- a/virt/kvm/x.c\n+++ b/virt/kvm/x.c\n@@ -1 +1 @@\n-a\n{line}\n")
        own = "{kernel: debian:6.12, patches: [fix.patch], modules_only: kvm}"
        matrix = load_matrix(written(tmp_path, head.replace("[debian:6.12]", f"[{own}]")))
        digests.append(make_plan(matrix, choose).digest)
    assert len({*digests, before}) == 3, "a new version of a series is another plan"
    scenario.write_text(scenario.read_text().replace("title: ", "title: more of "))
    assert digest() != before


SCHEMA = Draft202012Validator(matrix_schema())
EXAMPLE = PROJECT / "docs" / "examples" / "nightly" / "nightly.yaml"


@pytest.mark.parametrize("text", [HEAD, HEAD + "jobs: 3\ndeadline: 5min\n", EXAMPLE.read_text()])
def test_an_editor_takes_what_is_right(text: str) -> None:
    assert list(SCHEMA.iter_errors(yaml.safe_load(text))) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (HEAD + "repeet: 2\n", "$"),
        (HEAD + "repeat: 0\n", "$.repeat"),
        (HEAD + "jobs: 0\n", "$.jobs"),
        (HEAD + "document: {}\n", "$"),
        (f"scenarios: [{GREEN}]\n", "$"),
        (f"scenarios: [{GREEN}]\nkernels: [{{kernal: debian:6.12}}]\n", "$.kernels[0]"),
    ],
)
def test_an_editor_marks_what_is_wrong(text: str, path: str) -> None:
    assert [error.json_path for error in SCHEMA.iter_errors(yaml.safe_load(text))] == [path]
