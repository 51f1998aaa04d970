"""Examples are lines of a scenario, no more and no less."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.reference.examples import Example, Examples

_TEXT = """\
title: t
machine: {virt: vmx, cpu: {vmxe: [2]}}
points:
  first: {function: f}
  second:
    function: g          # where it matters
    hit: 2
steps:
  - load: kvm
  - load: {module: kvm_vendor}
    id: again
  # about the next one

  - sample: loaded
"""


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    (tmp_path / "one.yaml").write_text(_TEXT)
    (tmp_path / "two.yaml").write_text("steps:\n  - vm: 1\n")
    return Examples(tmp_path)


@pytest.mark.parametrize(
    ("section", "key", "file", "line", "text"),
    [
        ("points", "", "one.yaml", 4, "first: {function: f}"),
        ("points", "hit", "one.yaml", 5, "second:\n  function: g          # where it matters\n  hit: 2"),
        ("steps", "load", "one.yaml", 9, "- load: kvm"),
        ("steps", "id", "one.yaml", 10, "- load: {module: kvm_vendor}\n  id: again"),
        ("steps", "sample", "one.yaml", 14, "- sample: loaded"),
        ("steps", "vm", "two.yaml", 2, "- vm: 1"),
    ],
)
def test_entry(examples: Examples, section: str, key: str, file: str, line: int, text: str) -> None:
    assert examples.entry(section, key) == Example(Path(file), line, text)


def test_what_is_inside_a_line_is_shown_with_it(examples: Examples) -> None:
    assert examples.at("machine", "cpu") == Example(Path("one.yaml"), 2, "machine: {virt: vmx, cpu: {vmxe: [2]}}")


def test_what_no_scenario_has_is_no_example(examples: Examples) -> None:
    assert examples.entry("steps", "kexec") is None
    assert examples.at("machine", "tdx") is None
