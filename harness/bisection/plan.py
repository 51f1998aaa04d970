"""What is to be bisected: all that a bisection's folder has to remember to go on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.bisection.history import History
from harness.errors import UsageError
from harness.kernels import BuildOptions, with_patches
from harness.kernels.modules import MODULE_SOURCES, outside_of_modules
from harness.plan_file import PlanFile
from harness.scenario.load import load_scenario
from harness.scenario.model import Scenario

PATCHES = "patches"
_SHOWN = 5  # commits in a message


@dataclass(frozen=True)
class Plan(PlanFile):
    """What the command line said, with revisions as full object names and files as absolute paths."""

    work = "a bisection"

    tree: str
    good: str
    bad: str
    scenarios: tuple[str, ...]
    engine: str
    kernel: str = ""  # has each revision's changes put into it; "": each revision is built whole
    fragments: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()  # only these count; none: all
    repeat: int = 1

    @property
    def history(self) -> History:
        return History(Path(self.tree))

    def loaded(self) -> list[Scenario]:
        """The scenarios, each permutation by itself. Raises UsageError for a claim that none of them has."""
        scenarios = [variant for path in self.scenarios for variant in load_scenario(Path(path)).variants()]
        there = {use.claim.id for scenario in scenarios for use in scenario.claims}
        if unknown := [claim for claim in self.claims if claim not in there]:
            raise UsageError(
                f"no scenario decides claim {unknown[0]!r}", expected=f"one of {', '.join(sorted(there))}"
            )
        return scenarios

    def check(self) -> None:
        """Raises UsageError for a history that cannot be bisected like this."""
        commits = self.history.between(self.good, self.bad)
        if not commits:
            raise UsageError(
                "there is nothing between the good and the bad revision",
                expected="a bad revision that has commits which the good one has not",
                hint="are they the other way round?",
            )
        if not self._modules_only:
            return
        outside = {
            commit: names for commit in commits if (names := outside_of_modules(self.history.files_of(commit.id)))
        }
        if outside:
            raise UsageError(
                f"{len(outside)} of {len(commits)} commits change what is not in the KVM modules of {self.kernel}",
                expected=f"changes in {', '.join(MODULE_SOURCES)}",
                hint="leave --kernel out: then each revision is built whole",
                evidence="\n".join(
                    f"{commit}: {', '.join(names)}" for commit, names in list(outside.items())[:_SHOWN]
                ),
            )

    def revision(self, commit: str, folder: Path) -> tuple[str, BuildOptions]:
        """The kernel's spec for the revision `commit`, and what is done to it. A patch is kept in `folder`."""
        if not self.kernel:
            return f"git:{self.tree}@{commit[:12]}", BuildOptions(config_fragments=self.fragments)
        options = with_patches(self.kernel, self._patch(commit, folder))
        return self.kernel, BuildOptions(options.patches, self.fragments, options.modules_only)

    @property
    def _modules_only(self) -> bool:
        return bool(self.kernel and with_patches(self.kernel, ()).modules_only)

    def _patch(self, commit: str, folder: Path) -> tuple[Path, ...]:
        """What has changed since the good revision; nothing where that is nothing that is compiled."""
        diff = self.history.diff(self.good, commit, MODULE_SOURCES if self._modules_only else ())
        if not diff.strip():
            return ()
        path = folder / PATCHES / f"{commit[:12]}.patch"
        path.parent.mkdir(exist_ok=True)
        path.write_text(diff, errors="surrogateescape")
        return (path,)
