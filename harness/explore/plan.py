"""What is to be explored, and the points that were found for it: all that an exploration's folder has to remember."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UsageError
from harness.explore.activities import Activity, Cast, SyncPoint
from harness.explore.points import Recording, parse_points
from harness.explore.scenario import Points
from harness.plan_file import PlanFile


@dataclass(frozen=True)
class Plan(PlanFile):
    """What the command line said. `kernel` as in `--kernel`, `points` as in `--points`; `engine` is one's name."""

    work = "an exploration"

    activities: tuple[str, ...]
    kernel: str
    engine: str
    patches: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    every: bool = False  # also schedules that are equivalent to another
    baseline: str = ""  # the folder of an exploration of another kernel: what breaks there too is known

    @property
    def cast(self) -> Cast:
        return Cast.of(self.activities)

    @property
    def command(self) -> str:
        """The command line that explores the same."""
        kernel = f'"{self.kernel}"' if " " in self.kernel else self.kernel
        words = ["harness explore", *self.activities, "--kernel", kernel]
        for option, values in (("--patch", self.patches), ("--points", self.points)):
            words += [word for value in values for word in (option, value)]
        words += ["--baseline", self.baseline] if self.baseline else []
        return " ".join([*words, *(["--all"] if self.every else [])])

    @property
    def given(self) -> dict[str, tuple[SyncPoint, ...]]:
        """The points of `--points`, by activity. Raises UsageError for what is none."""
        return dict(parse_points(text) for text in self.points)

    def wanted(self, version: str) -> dict[str, tuple[SyncPoint, ...]]:
        """The points to look for, by activity. Raises UsageError for a given one of an activity that is not there."""
        cast, given = self.cast, self.given
        if strangers := sorted(given.keys() - set(cast.names)):
            raise UsageError(f"--points speaks of {strangers[0]}, which is not explored")
        return {name: given.get(name) or _points_of(cast, cast[name], version) for name in cast.names}


def _points_of(cast: Cast, activity: Activity, version: str) -> tuple[SyncPoint, ...]:
    points = activity.points_on(version, cast.others(activity.name))
    if not points:
        raise UsageError(f"{activity.name} has no points on {version}", hint=f"give some: --points {activity.name}=…")
    return points


def save_recordings(path: Path, recordings: Mapping[str, Recording]) -> None:
    """Writes the points that each activity comes to, and those that it does not."""
    data = {
        name: {"points": [point.text for point in found.points], "absent": [point.text for point in found.absent]}
        for name, found in recordings.items()
    }
    path.write_text(json.dumps(data, indent=2) + "\n")


def load_recordings(path: Path, wanted: Points) -> dict[str, Recording]:
    """The inverse, with what is known of the points that are `wanted`."""
    data = json.loads(path.read_text())
    return {
        name: Recording(_restored(found["points"], wanted[name]), _restored(found["absent"], wanted[name]))
        for name, found in data.items()
    }


def _restored(texts: Sequence[str], wanted: Sequence[SyncPoint]) -> tuple[SyncPoint, ...]:
    known = {(point.function, point.phase): point for point in wanted}
    places = parse_points(f"any={','.join(texts)}")[1] if texts else ()
    return tuple(replace(known[place.function, place.phase], hit=place.hit) for place in places)
