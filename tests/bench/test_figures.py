"""The arithmetic, on made-up numbers."""

from __future__ import annotations

import pytest

from harness.bench.figures import Figure, Ratio, spread


def test_the_median_is_not_the_mean() -> None:
    assert Figure("boot", (4.0, 5.0, 60.0)).median == 5.0
    assert Figure("boot", (4.0, 6.0)).median == 5.0


def test_spread() -> None:
    assert spread((3.0, 1.0, 2.0)) == (2.0, 1.0, 3.0, 3)


def test_a_ratio_compares_round_by_round() -> None:
    # The machine got busier all the time: the medians say 3 / 4, every single round says a half.
    ratio = Ratio.of("a / b", Figure("a", (1.0, 3.0, 2.0)), Figure("b", (2.0, 6.0, 4.0)))
    assert ratio.values == (0.5, 0.5, 0.5)
    one_slow_round = Ratio.of("a / b", Figure("a", (1.0, 1.0, 9.0)), Figure("b", (2.0, 2.0, 2.0)))
    assert one_slow_round.median == 0.5


def test_a_ratio_needs_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="longer"):
        Ratio.of("a / b", Figure("a", (1.0, 2.0)), Figure("b", (1.0, 2.0, 3.0)))


@pytest.mark.parametrize(
    ("values", "target", "reached"), [((0.5,), 0.5, True), ((0.51,), 0.5, False), ((9.0,), None, None)]
)
def test_targets(values: tuple[float, ...], target: float | None, reached: bool | None) -> None:
    assert Ratio("a / b", values, target).reached is reached
