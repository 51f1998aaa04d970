"""Durations, errnos, kernel ranges and selectors."""

from __future__ import annotations

import pytest

from harness.scenario.kinds import KernelRange, Selector, parse_duration, parse_errno


@pytest.mark.parametrize(("text", "seconds"), [("20s", 20.0), ("500ms", 0.5), ("2min", 120.0), (3, 3.0)])
def test_duration(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["fast", "0s", "-1s", "", "1h", None])
def test_not_a_duration(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "name"), [("EBUSY", "EBUSY"), ("-EIO", "EIO"), (0, "OK"), ("OK", "OK")])
def test_errno(text: object, name: str) -> None:
    assert parse_errno(text) == name


def test_unknown_errno() -> None:
    with pytest.raises(ValueError, match="EBSY"):
        parse_errno("EBSY")


@pytest.mark.parametrize(
    ("text", "version", "inside"),
    [
        ("6.1", "6.1.192", True),
        ("6.1", "6.12.95", False),
        (">=6.12", "6.12.95", True),
        (">=6.12,<7.3", "7.3.4", False),
        ("", "5.10", True),
    ],
)
def test_kernel_range(text: str, version: str, inside: bool) -> None:
    assert KernelRange.parse(text).contains(version) is inside


def test_kernel_range_refuses_words() -> None:
    with pytest.raises(ValueError, match=r"write 6\.1"):
        KernelRange.parse("newest")


def test_selector_has_all_its_parts() -> None:
    selector = Selector.parse("cpuhp_exit[function=kvm_online_cpu, ret=-5]@3")
    assert (selector.name, selector.phase, selector.cpu) == ("cpuhp_exit", None, 3)
    assert selector.where == {"function": "kvm_online_cpu", "ret": "-5"}
    assert Selector.parse("load.end").of_step
    assert Selector.parse("kvm_online_cpu.return@each").cpu == "each"


@pytest.mark.parametrize("text", ["", "a b", "name@some", "name[x]", 7, "name.middle"])
def test_selector_refuses(text: object) -> None:
    with pytest.raises(ValueError, match="write"):
        Selector.parse(text)
