"""The preemption model, as kernels tell it."""

from __future__ import annotations

import pytest

from harness.observe.preemption import parse_preemption

VERSION = (
    "Linux version 6.12.95+deb12-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0)) #1 SMP {} Debian\n"
)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("none voluntary (full)\n" + VERSION.format("PREEMPT_DYNAMIC"), "full"),
        ("none voluntary full (lazy) \n" + VERSION.format("PREEMPT_DYNAMIC"), "lazy"),
        ("(none) voluntary full\n" + VERSION.format("PREEMPT_DYNAMIC"), "none"),
        (VERSION.format("PREEMPT_DYNAMIC"), "unknown"),  # without debugfs nobody says which
        (VERSION.format("PREEMPT"), "full"),
        (VERSION.format("PREEMPT_RT"), "rt"),
        (VERSION.format("PREEMPT_LAZY"), "lazy"),
        (VERSION.format(""), "none"),
    ],
)
def test_the_model_is_what_debugfs_says_or_what_was_built(text: str, model: str) -> None:
    assert parse_preemption(text) == model
