"""A run: from a scenario, a kernel and an engine to a judged folder."""

from harness.run.job import Job, run_job
from harness.run.steps import Steps

__all__ = ["Job", "Steps", "run_job"]
