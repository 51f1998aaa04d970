from __future__ import annotations

import json

import pytest

from harness.errors import UsageError
from harness.platform.tdx import Layout, pc_cmrs
from harness.platform.tdx.layout import GIB, MIB, PAGE

CMRS = pc_cmrs(768 * MIB)


@pytest.mark.parametrize(
    ("memory", "cmrs"),
    [
        (256 * MIB, ((MIB, 255 * MIB),)),
        (3584 * MIB - PAGE, ((MIB, 3583 * MIB - PAGE),)),
        (3584 * MIB, ((MIB, 3 * GIB - MIB), (4 * GIB, 512 * MIB))),
        (16 * GIB, ((MIB, 3 * GIB - MIB), (4 * GIB, 13 * GIB))),
    ],
)
def test_cmrs_of_a_pc(memory: int, cmrs: tuple[tuple[int, int], ...]) -> None:
    assert pc_cmrs(memory) == cmrs


@pytest.mark.parametrize("memory", [0, MIB, 2 * MIB + 1])
def test_no_cmrs_of_a_machine_that_cannot_be(memory: int) -> None:
    with pytest.raises(UsageError):
        pc_cmrs(memory)


@pytest.mark.parametrize(
    ("packages", "cmrs"),
    [
        ({}, CMRS),
        ({0: 8}, CMRS),
        ({0: -1}, CMRS),
        ({0: 0}, ((0, PAGE),) * 33),
        ({0: 0}, ((512, PAGE),)),
        ({0: 0}, ((PAGE, 512),)),
        ({0: 0}, ((PAGE, 0),)),
        ({0: 0}, ((0, 2 * PAGE), (PAGE, PAGE))),
        ({0: 0}, ((PAGE, PAGE), (0, PAGE))),
    ],
)
def test_a_layout_that_no_firmware_would_hand_over(
    packages: dict[int, int], cmrs: tuple[tuple[int, int], ...]
) -> None:
    with pytest.raises(UsageError):
        Layout(packages, cmrs)


def test_touching_cmrs_are_fine() -> None:
    assert Layout({0: 0}, ((0, PAGE), (PAGE, PAGE))).package_count == 1


def test_packages_are_counted_not_their_numbers() -> None:
    assert Layout({0: 0, 1: 0, 2: 5, 3: 5}, CMRS).package_count == 2


def test_a_layout_does_not_change_with_the_mapping_it_was_made_of() -> None:
    packages = {0: 0}
    layout = Layout(packages, CMRS)
    packages[1] = 1
    assert layout.package_count == 1


def test_json_round_trip() -> None:
    layout = Layout({0: 0, 7: 1}, pc_cmrs(4 * GIB))
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
