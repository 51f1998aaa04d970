"""Many runs: one after the other, or several at a time in processes of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness import progress
from harness.errors import HarnessError, UsageError
from harness.machine.host import cpus, memory_mib
from harness.report.result import RunResult
from harness.run.job import Job, run_job
from harness.scenario.model import Scenario
from harness.workers import in_parallel

_OVERHEAD_MIB = 500  # of a run beside its guest's memory: QEMU's translated code, and the harness


def run_jobs(jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, RunResult]]:
    """Runs `jobs`, `workers` at a time; yields index and result as they come to their end.

    Raises what `run_job` raises. With several workers, what only concerns one job is raised when the others are done.
    """
    if workers == 1 or len(jobs) < 2:
        for index, job in enumerate(jobs):
            with progress.task(title(job)) as doing:
                result = run_job(job)
                doing.outcome = _verdicts(result)
            yield index, result
        return
    faults: list[HarnessError] = []
    for index, outcome in in_parallel(run_job, jobs, workers, title):
        if isinstance(outcome, UsageError):
            raise outcome
        if isinstance(outcome, HarnessError):
            progress.note(f"{title(jobs[index])}: {outcome.what}")
            faults.append(outcome)
            continue
        progress.done(f"{title(jobs[index])}: {_verdicts(outcome)}", outcome.seconds)
        yield index, outcome
    if faults:
        raise faults[0]


def title(job: Job) -> str:
    """A job's name on the display."""
    return f"{job.scenario.name} on {job.label}"


def fitting_workers(scenarios: Iterable[Scenario], wanted: int | None) -> int:
    """How many runs of `scenarios` this host can do at a time, at most as many as `wanted`; None: one per CPU.

    A guest with more vCPUs than the host has CPUs is the rule under emulation, so its vCPUs do not count.
    """
    largest = max((scenario.machine.memory for scenario in scenarios), default=0) + _OVERHEAD_MIB
    room = max(1, memory_mib() // largest)
    if wanted is not None and wanted > room:
        progress.note(f"memory for {room} runs at a time, not {wanted}")
    return min(wanted or cpus(), room)


def _verdicts(result: RunResult) -> str:
    return ", ".join(dict.fromkeys(claim.verdict.value for claim in result.judgement.claims))
