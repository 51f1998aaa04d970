"""A series on a kernel, beside the kernel without it: the same scenarios on both, and what it changed per claim."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import progress
from harness.deadline import Deadline
from harness.errors import DoesNotBuild, Exit, worst_exit
from harness.judge.verdict import ClaimVerdict, Finding, Verdict
from harness.kernels import BuildOptions, resolve, with_patches
from harness.kernels.mailbox import Series
from harness.kernels.modules import outside_of_modules
from harness.machine.auto import Tools
from harness.report.result import RunResult
from harness.run import Job
from harness.run.batch import run_jobs
from harness.scenario.model import Scenario
from harness.series.relevance import Chosen

_BUILD_S = 3 * 3600.0  # a distribution's configuration on a small machine


@dataclass(frozen=True)
class Target:
    """A kernel that the series is put into: the spec that is built, and how."""

    spec: str
    options: BuildOptions
    note: str = ""  # why it is not the spec that was asked for


@dataclass(frozen=True)
class Difference:
    """A claim of a scenario without and with the series, with the runs that say so."""

    without: RunResult
    patched: RunResult
    before: ClaimVerdict
    after: ClaimVerdict

    @property
    def scenario(self) -> str:
        return self.patched.scenario

    @property
    def claim(self) -> str:
        return self.after.use.claim.id

    @property
    def change(self) -> str:
        """What the series did to the claim, in a word; "" for nothing."""
        if self.before.verdict is self.after.verdict is Verdict.VIOLATED:
            return "violated otherwise too" if _own_failure(self.before) and not _own_failure(self.after) else ""
        return _CHANGES.get((self.before.verdict, self.after.verdict), "")

    @property
    def exit(self) -> Exit:
        """What the patched kernel's verdict comes to; what is declared of the unpatched one is no news of a patch."""
        if Verdict.HARNESS_FAULT in (self.before.verdict, self.after.verdict):
            return Exit.HARNESS_FAULT
        if self.before.as_declared and self.before.verdict is self.after.verdict and _own_failure(self.after):
            return Exit.CONFIRMED
        return self.after.verdict.exit


def _own_failure(claim: ClaimVerdict) -> bool:
    """Whether nothing but the claim's expectations failed: a splat with the patch is news, whatever is known."""
    return all(found.expectation is not None for found in claim.findings if found.finding is Finding.FAILED)


_C, _V, _N, _H = Verdict.CONFIRMED, Verdict.VIOLATED, Verdict.NOT_EXERCISED, Verdict.HARNESS_FAULT
_CHANGES = {
    (_C, _V): "broken",
    (_V, _C): "fixed",
    (_N, _V): "seen to be violated",
    (_N, _C): "seen to hold",
    (_C, _N): "no longer exercised",
    (_V, _N): "no longer exercised",
    **{pair: "not known" for one in (_C, _V, _N, _H) for pair in ((one, _H), (_H, one))},
}


@dataclass(frozen=True)
class Trial:
    """What came of a series on one kernel. `without` and `patched` are runs of the same scenarios, in order."""

    target: Target
    chosen: tuple[Chosen, ...]
    without: tuple[RunResult, ...] = ()
    patched: tuple[RunResult, ...] = ()
    left_out: int = 0  # scenarios that are about it too

    @property
    def differences(self) -> list[Difference]:
        return [
            Difference(without, patched, before, after)
            for without, patched in zip(self.without, self.patched, strict=True)
            for before in without.judgement.claims
            for after in patched.judgement.claims
            if before.use.claim.id == after.use.claim.id
        ]

    @property
    def exit(self) -> Exit:
        return worst_exit([difference.exit for difference in self.differences])


def target_of(spec: str, series: Series, mbox: Path, fragments: tuple[str, ...] = ()) -> Target:
    """How to get the series into the kernel `spec` with the least that has to be built.

    Of a packaged kernel the modules; where the series changes what is in its image, Debian's source of it, whole.
    """
    files = [file for mail in series.mails for file in mail.patch.files]
    outside = outside_of_modules(files)
    version = re.fullmatch(r"debian:(\d+\.\d+)", spec)
    if version is None or not outside:
        options = with_patches(spec, (mbox,))
        return Target(spec, BuildOptions(options.patches, fragments, options.modules_only))
    tdx = "+tdx" if any("tdx" in file or file.startswith("arch/x86/virt/") for file in files) else ""
    whole = f"debian-source:{version[1]}{tdx}"
    note = f"{outside[0]} is in the kernel image: {whole} is built instead of {spec}, and compared with"
    return Target(whole, BuildOptions((mbox,), fragments), note)


def suits(scenario: Scenario, spec: str) -> bool:
    """Whether a scenario was written for the kernel `spec`: by name, or as another build of the same version.

    A scenario says nothing of kernels that only its user knows: tree:, git: and image:.
    """
    if spec in scenario.kernels or spec.partition(":")[0] in ("tree", "git", "image"):
        return True
    version = re.match(r"debian-source:(\d+\.\d+)", spec)
    return version is not None and f"debian:{version[1]}" in scenario.kernels


def build(target: Target, series: Series) -> None:
    """Builds both kernels. Raises DoesNotBuild, with what the series says that it is for, before anything boots."""
    deadline = Deadline.after(_BUILD_S, f"building {target.spec}")
    resolve(target.spec, unpatched(target.options), deadline)
    try:
        with progress.task(f"build {target.spec} with {series.title}"):
            resolve(target.spec, target.options, deadline)
    except DoesNotBuild as error:
        made_for = f"; its base-commit is {series.base}" if series.base else ""
        raise DoesNotBuild(
            error.what,
            expected=error.expected,
            found=error.found,
            hint=f"name the kernel that it is for with --kernel, or git:PATH@REVISION{made_for}",
            evidence=error.evidence,
        ) from error


def unpatched(options: BuildOptions) -> BuildOptions:
    """The kernel as it comes."""
    return BuildOptions(config_fragments=options.config_fragments)


def run_trial(target: Target, chosen: Sequence[Chosen], left_out: int, tools: Tools, workers: int) -> Trial:
    """Runs each scenario on the kernel without and with the series."""
    jobs = list(_jobs(target, chosen, tools))
    results: Mapping[int, RunResult] = dict(run_jobs(jobs, workers))
    ordered = [results[index] for index in sorted(results)]
    return Trial(target, tuple(chosen), tuple(ordered[0::2]), tuple(ordered[1::2]), left_out)


def _jobs(target: Target, chosen: Sequence[Chosen], tools: Tools) -> Iterator[Job]:
    """Two per scenario and permutation: first without the series, then with it."""
    for one in chosen:
        for scenario in one.scenario.variants():
            engine = tools.engine(scenario.machine)
            for options in (unpatched(target.options), target.options):
                yield Job(scenario, target.spec, engine, tools.qemu, options)
