"""The documentation says what the code does: kinds have their rows, examples load, command lines parse."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

from harness.cli import cli
from harness.errors import Exit
from harness.guest.actions import command, perform
from harness.judge.findings import _find
from harness.machine import engine
from harness.machine.kvm import CASES
from harness.observe.sample import ABSENT, Sample
from harness.paths import PROJECT
from harness.platform import build
from harness.platform.cpu import CAPABILITIES, CONTROLS
from harness.platform.tdx import Layout, ModuleConfig, TdxModule, leaf_name
from harness.platform.tdx.module import _ENTRIES
from harness.probes.event import same_value
from harness.run import Steps
from harness.scenario.check import STANDARD_EVENTS, STANDARD_SAMPLES, asleep_sample
from harness.scenario.expectations import EXPECTATION_KINDS, Expectation
from harness.scenario.functions import REAL_NAMES, Vendor, real_name
from harness.scenario.load import REQUIRED_KEYS, TOP_KEYS, build_scenario
from harness.scenario.machine import CpuSection, MachineSection, TdxFault, TdxSection
from harness.scenario.model import Claim, ClaimUse, Point, Probe
from harness.scenario.platform_events import PLATFORM_EVENTS
from harness.scenario.steps import ACTOR_KINDS, STEP_KINDS, GuestStep, Step
from harness.scenario.yaml_file import parse_yaml
from tests.bochs.test_second_opinion import EXPLAINED

SCENARIOS = PROJECT / "docs" / "scenarios.md"
FIDELITY = PROJECT / "docs" / "fidelity.md"
ENGINES = PROJECT / "docs" / "engines.md"
LABELS = [engine.label for engine in engine.ENGINES]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
SAMPLE = PROJECT / "tests" / "data" / "sample.json"  # vm-open of scenarios/life-of-a-vm.yaml on Debian 6.12.95

# A scenario around a fragment: the fragment's sections take the place of these.
AROUND = """\
title: t
claims: [{id: own, text: t, source: s}]
kernels: [debian:6.12]
steps: [load: kvm_vendor]
expect: [virt: {at: reset, on: none}]
"""

# What a step that is an example may refer to.
AROUND_STEP = (
    AROUND
    + """\
machine: {max_cpus: 5}
trace: [kvm_shutdown]
actors: {loader: {load: kvm_vendor}, other: {load: kvm}}
points: {in-window: {function: register_syscore, actor: other}}
"""
)

READY = {
    "state": "ready",
    "lp_initialized": [0, 1, 2, 3],
    "packages_configured": [0],
    "global_keyid": 64,
    "tdmrs": 1,
    "tdmrs_initialized": 1,
}  # of a TDX module, on a machine with one package

Row = tuple[str, ...]


@cache
def tables(document: Path = SCENARIOS) -> Mapping[str, tuple[Row, ...]]:
    """The tables of a document by the heading of their first column; rows without the heading."""
    found: dict[str, list[Row]] = {}
    rows: list[Row] | None = None
    for line in document.read_text().splitlines():
        if not line.startswith("|"):
            rows = None
            continue
        cells = tuple(cell.strip() for cell in line.strip("|").split("|"))
        if rows is None:
            rows = found.setdefault(cells[0], [])
        elif not cells[0].startswith("---"):
            rows.append(cells)
    return {heading: tuple(rows) for heading, rows in found.items()}


def codes(text: str) -> list[str]:
    """The code spans of a text, fenced blocks left out."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))


def first_column(heading: str) -> list[str]:
    return [codes(row[0])[0] if codes(row[0]) else row[0] for row in tables()[heading]]


def keys(*models: type[BaseModel], without: Iterable[str] = ()) -> set[str]:
    return {name for model in models for name in model.model_fields} - set(without)


# --- every word of a scenario has its row ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("key", set(TOP_KEYS)),
        ("step", set(STEP_KINDS)),
        ("expectation", set(EXPECTATION_KINDS)),
        ("step key", keys(Step)),
        ("expectation key", keys(Expectation)),
        ("claim key", keys(Claim, ClaimUse, without=["claim"])),
        ("machine key", keys(MachineSection)),
        ("cpu key", keys(CpuSection)),
        ("tdx key", keys(TdxSection)),
        ("fault key", keys(TdxFault)),
        ("trace key", keys(Probe)),
        ("point key", keys(Point)),
        ("sample", {*STANDARD_SAMPLES, asleep_sample("STEP")}),
        ("exit", {*(str(int(code)) for code in Exit), "130"}),
    ],
)
def test_table_has_exactly_these_rows(heading: str, expected: set[str]) -> None:
    found = first_column(heading)
    assert set(found) == expected
    assert len(found) == len(expected), "a row stands twice"


def test_every_event_of_the_platform_is_documented_with_its_arguments() -> None:
    found = {name: tuple(codes(row[1])) for row in tables()["platform event"] for name in codes(row[0])}
    assert found == dict(PLATFORM_EVENTS)


def test_every_obstacle_of_kvm_is_documented_in_its_order() -> None:
    assert [row[0] for row in tables(ENGINES)["obstacle"]] == list(CASES)


def test_every_engine_is_documented_in_the_order_of_auto() -> None:
    assert [codes(row[0])[0] for row in tables(ENGINES)["engine"]][: len(LABELS)] == LABELS


def test_required_keys_are_said_to_be() -> None:
    assert {codes(key)[0] for key, needed, _ in tables()["key"] if needed == "yes"} == set(REQUIRED_KEYS)


def test_defaults_are_the_code_s() -> None:
    models: dict[str, type[BaseModel]] = {
        "machine key": MachineSection,
        "cpu key": CpuSection,
        "tdx key": TdxSection,
        "fault key": TdxFault,
    }
    for heading, model in models.items():
        for key, default, _ in tables()[heading]:
            field = model.model_fields[codes(key)[0]]
            value = "" if field.is_required() else field.default
            assert default in (str(value or ""), str(value).lower(), "`cpus`"), key
    for kind, _, _, within in tables()["step"]:
        assert within == f"{STEP_KINDS[codes(kind)[0]].default_within:g}s", kind


def test_every_key_of_a_kind_is_mentioned() -> None:
    text = SCENARIOS.read_text()
    shown = set(re.findall(r"[\w-]+", " ".join(codes(text)) + " ".join(block for block in yaml_blocks())))
    for kind, model in {**STEP_KINDS, **EXPECTATION_KINDS}.items():
        fields = {field.alias or name for name, field in model.model_fields.items()}
        # A main key is never written: its value follows the kind.
        missing = fields - shown - {str(getattr(model, "shorthand", ""))}
        assert not missing, f"{kind}: {missing}"


def test_vmx_controls_are_listed() -> None:
    sentence = re.search(r"^The controls: (.*?)\.$", SCENARIOS.read_text(), re.DOTALL | re.MULTILINE)
    assert sentence and codes(sentence[1]) == list(CONTROLS)


def test_actors_are_listed() -> None:
    sentence = re.search(r"An actor is [^.]*?any of (.*?)\. `start`", SCENARIOS.read_text(), re.DOTALL)
    assert sentence and set(codes(sentence[1])) == set(ACTOR_KINDS)


def test_standard_events_are_named() -> None:
    assert set(STANDARD_EVENTS) <= set(codes(SCENARIOS.read_text()))


def test_table_of_real_names() -> None:
    vendors: dict[str, Vendor] = {"on SVM": "svm", "on VMX": "vmx"}
    seen = set()
    for name_cell, *symbols in tables()["name"]:
        name = codes(name_cell)[0]
        vendor = next((vendor for words, vendor in vendors.items() if words in name_cell), None)
        seen.add((name, vendor))
        for version, symbol in zip(("6.1.192", "6.12.95", "7.3.4"), symbols, strict=True):
            assert "".join(codes(symbol)) == (real_name(name, version, vendor or "svm") or ""), (name, version)
    assert seen == {(name, row.vendor) for name, rows in REAL_NAMES.items() for row in rows}


# --- paths of samples -----------------------------------------------------------------------------------------


def test_paths_lead_to_what_is_written_beside_them() -> None:
    sample = Sample.from_json(json.loads(SAMPLE.read_text()))
    for path, value, _ in tables()["path"]:
        found = sample.lookup(codes(path)[0])
        assert found != ABSENT, path
        assert same_value(found, codes(value)[0]), f"{path}: {found}"


def test_every_section_of_a_sample_has_a_path() -> None:
    frame = {"op", "target", "errno", "errno_name"}  # of each of guestctl's replies
    sections = set(json.loads(SAMPLE.read_text())["guest"]) - frame
    assert {path.split(".")[0] for path in first_column("path")} == sections


def test_paths_into_the_platform_are_what_is_written_beside_them() -> None:
    """After the values of docs/scenarios.md: those of a platform and a TDX module that tell the same."""
    platform: dict[str, Any] = {
        "vmx": {"2": {"root": 1, "vmxon": "0x295000", "vmcs": "0xffffffffffffffff"}},
        "tdx": {**TdxModule(ModuleConfig(), Layout({0: 0}, ())).summary, **READY},
    }
    sample = Sample("loaded", 1, {}, {}, (), platform=platform)
    for path, value, _ in tables()["platform path"]:
        assert same_value(sample.lookup(codes(path)[0]), codes(value)[0]), path
    shown = {codes(path)[0].removeprefix("platform.tdx.") for path, *_ in tables()["platform path"]}
    assert shown >= platform["tdx"].keys()


# --- examples load --------------------------------------------------------------------------------------------


def yaml_blocks() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```$", SCENARIOS.read_text(), re.DOTALL | re.MULTILINE)


def load(text: str, base: str = "") -> None:
    """Loads a scenario, or one that has the sections of `text` in place of those of `base`."""
    data = parse_yaml(Path("example.yaml"), text).data
    if base:
        data = parse_yaml(Path("base.yaml"), base).data | data
        ids = [use["id"] if isinstance(use, dict) else use for use in data["claims"]]
        if len(ids) > 1:
            data["expect"] = [{**data["expect"][0], "claim": name} for name in ids]
    build_scenario(parse_yaml(Path("example.yaml"), json.dumps(data, ensure_ascii=False)))


@pytest.mark.parametrize("block", yaml_blocks(), ids=lambda block: block.split("\n")[0][:40])
def test_blocks_load(block: str) -> None:
    whole = block.startswith("title:")
    load(block, "" if whole else example_scenario() if block.startswith("expect:") else AROUND)


def example_scenario() -> str:
    return yaml_blocks()[0]


def test_the_first_block_is_a_whole_scenario() -> None:
    assert example_scenario().startswith("title:")


def examples(heading: str) -> Iterator[tuple[str, str]]:
    for row in tables()[heading]:
        kind = codes(row[0])[0]
        assert codes(row[1]), f"{kind} has no example"
        yield from ((kind, example) for example in codes(row[1]))


@pytest.mark.parametrize(("kind", "example"), list(examples("step")))
def test_step_examples_load(kind: str, example: str) -> None:
    before = ["start: other", "start: loader", "hold: in-window", "vm: 0", *_needed(kind)]
    own = {"start": "start: loader", "hold": "hold: in-window"}.get(kind)
    steps = "".join(f"  - {step}\n" for step in (*(step for step in before if step != own), example))
    assert example.startswith(f"{kind}:")
    load(f"steps:\n{steps}", AROUND_STEP)


def _needed(kind: str) -> Iterable[str]:
    return ["plug: 4"] if kind == "unplug" else []


@pytest.mark.parametrize(("kind", "example"), list(examples("expectation")))
def test_expectation_examples_load(kind: str, example: str) -> None:
    assert example.startswith(f"{kind}:")
    load(f"expect:\n  - {example}\n", example_scenario())


@pytest.mark.parametrize("selector", first_column("selector"))
def test_selector_examples_load(selector: str) -> None:
    load(f"expect:\n  - count: {{event: {selector}, min: 1}}\n", example_scenario())


@pytest.mark.parametrize("fault", tables()["fault"], ids=lambda row: row[0])
def test_fault_examples_load(fault: Row) -> None:
    load(f"machine: {{virt: vmx, {codes(fault[1])[0]}}}", AROUND)


# --- what is said of the emulated platform ----------------------------------------------------------------------


def test_every_instruction_that_the_plugin_executes_is_documented() -> None:
    source = (build.SOURCES / "x86.c").read_text()
    names = set(re.findall(r'\[OP_\w+\] = "(\w+)"', source)) - {"other", "jcc", "setcc", "cmovcc", "mov_to_cr"}
    shown = {name.lower() for row in tables(FIDELITY)["instruction"] for name in codes(row[0])}
    assert len(names) >= 19
    assert shown == names | {"mov", "vmfunc"}


def test_every_leaf_of_the_tdx_module_is_documented() -> None:
    shown = [name for row in tables(FIDELITY)["leaf"] for name in codes(row[0])]
    assert sorted(shown) == sorted(map(leaf_name, _ENTRIES))


def test_the_range_of_vmx_capabilities() -> None:
    assert f"`{min(CAPABILITIES):#x}`–`{max(CAPABILITIES):#x}` IA32_VMX_*" in first_cells(FIDELITY, "MSR")


def test_every_difference_from_bochs_is_documented_with_its_reason() -> None:
    shown = [row[-1] for row in tables(FIDELITY)["where they differ"]]
    assert sorted(shown) == sorted(one.reason for one in EXPLAINED)


def first_cells(document: Path, heading: str) -> list[str]:
    return [row[0] for row in tables(document)[heading]]


# --- every kind has its code ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_every_step_is_performed(kind: str) -> None:
    model = STEP_KINDS[kind]
    by_the_run = model in Steps.__dict__["_perform"].dispatcher.registry
    if issubclass(model, GuestStep):
        assert model in command.registry, "no shell command for it in harness/guest/actions.py"
    else:
        assert model in perform.registry or by_the_run, "nobody performs it"


@pytest.mark.parametrize("kind", EXPECTATION_KINDS)
def test_every_expectation_has_a_rule(kind: str) -> None:
    assert EXPECTATION_KINDS[kind] in _find.registry


# --- the stages -----------------------------------------------------------------------------------------------


@cache
def stages() -> Mapping[str, int]:
    """Stage or module, as docs/design.md names it -> its row."""
    text = (PROJECT / "docs" / "design.md").read_text()
    table = re.search(r"^\| stage \| one job \|\n\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table
    rows = [row.strip("|").split("|")[0] for row in table[1].splitlines()]
    return {name: number for number, row in enumerate(rows) for name in codes(row)}


def row_of(module: tuple[str, ...]) -> int:
    """The row of a module such as ("judge", "findings"): its own, or that of its folder, or of its stage."""
    rows = stages()
    nearest = ("/".join(module[:length]) for length in range(len(module), 0, -1))
    return next((rows[name] for name in nearest if name in rows), -1)


def imports(file: Path) -> Iterator[tuple[str, ...]]:
    """The modules of the harness that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            first, *rest = node.module.split(".")
            if first == "harness":
                yield from [tuple(rest)] if rest else [(alias.name,) for alias in node.names]


def test_stages_import_only_what_is_above_them() -> None:
    for file in sorted((PROJECT / "harness").rglob("*.py")):
        module = file.relative_to(PROJECT / "harness").with_suffix("").parts
        if module == ("__init__",):
            continue
        assert row_of(module) >= 0, f"{file} belongs to no stage of docs/design.md"
        for imported in imports(file):
            assert row_of(imported) <= row_of(module), f"{file} imports {'.'.join(imported)}, a later stage"


# --- links and command lines of all documents -----------------------------------------------------------------


def slug(heading: str) -> str:
    """The anchor that forges give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if file.parent == PROJECT / "docs" / "reference":
            continue  # made with the site, and so are the links to it tried: tests/reference/test_site.py
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after `harness` of each command line: in code blocks, and in the text where it has arguments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$|((?:^ {4,}.*\n?)+)", text, re.DOTALL | re.MULTILINE)
    for line in "\n".join(fenced or indented for fenced, indented in blocks).replace("\\\n", " ").splitlines():
        if found := re.match(r"\s*(?:\$ )?(?:\.venv/bin/)?harness (?=\S)(.*)", line):
            yield shlex.split(found[1], comments=True)
    for span in codes(text):
        # `harness run SCENARIO… [--kernel K]` is a synopsis, and `harness kernels rm` a name.
        if span.startswith("harness ") and not re.search(r"[|…\[]", span) and not is_name(span.split()[1:]):
            yield shlex.split(span)[1:]


def is_name(words: list[str]) -> bool:
    """Whether the words are a command and nothing else."""
    command: click.Command | None = cli
    for word in words:
        command = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
    return command is not None


def parse(words: list[str]) -> None:
    """Has click parse a command line as it would run it, and stops there. Raises click.UsageError."""
    command: click.Command = cli
    name, context = "harness", None
    while True:
        context = command.make_context(name, list(words), parent=context)
        words = [*getattr(context, "_protected_args", []), *context.args]
        if not isinstance(command, click.Group) or not words:
            return
        found_name, found, words = command.resolve_command(context, words)
        assert found_name and found
        name, command = found_name, found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_command_lines_are_accepted(document: Path) -> None:
    for words in command_lines(document.read_text()):
        try:
            parse(words)
        except click.exceptions.Exit:
            pass  # --help and --version end by themselves
        except click.UsageError as error:
            pytest.fail(f"harness {shlex.join(words)}: {error.format_message()}")


def test_the_command_line_test_can_fail() -> None:
    with pytest.raises(click.UsageError):
        parse(["run", "--no-such-option", "x.yaml"])
    with pytest.raises(click.UsageError):
        parse(["kernels", "fetsch", "debian:6.12"])


# --- the pytest plugin ----------------------------------------------------------------------------------------


def test_options_and_fixtures_of_the_plugin_are_documented() -> None:
    source = (PROJECT / "harness" / "pytest_plugin.py").read_text()
    text = (PROJECT / "docs" / "pytest.md").read_text()
    names = re.findall(r'addoption\(\s*"(--[a-z-]+)"', source)
    names += re.findall(r"@pytest\.fixture.*\ndef (\w+)", source)
    assert len(names) >= 6
    for name in names:
        assert f"`{name}" in text, name


def test_python_examples_are_python() -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (PROJECT / "docs" / "pytest.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert blocks
    for block in blocks:
        scope: dict[str, Any] = {}
        exec(compile(block, "docs/pytest.md", "exec"), scope)  # imports, and defines tests
        assert any(name.startswith("test_") for name in scope)
