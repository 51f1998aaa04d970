"""The tracer's last mark."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.probes import tracer
from harness.probes.tracefs import mark
from harness.probes.tracer import STREAMS, Tracer
from harness.scenario.kinds import parse_id


@pytest.mark.parametrize("step", ["run", "run-2", "trace"])
def test_no_step_can_pass_for_the_end_of_the_trace(tmp_path: Path, step: str) -> None:
    parse_id(step)
    (tmp_path / STREAMS[0]).write_text(f"sh-1 [000] 3: tracing_mark_write: {mark('end', step)}\n")
    assert not Tracer([], tmp_path)._streamed(1, mark("end", tracer._ALL))
