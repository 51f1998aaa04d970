"""What a guest sees of VMX under one emulator, as text that can be compared with another's.

The guest runs opinion.sh, which says it step by step on its console. What is no property of VMX is taken out here:
durations, process ids, times.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import process
from harness.deadline import Deadline
from harness.errors import HostFault
from harness.images import cpio
from harness.images.initramfs import build_image
from harness.images.recipe import load_recipe
from harness.kernels import Kernel
from tests.bochs import probe

_SCRIPT = Path(__file__).with_name("opinion.sh")
_USER = Path(__file__).with_name("vmx_user.c")
_CFLAGS = ("-Wall", "-Wextra", "-Werror", "-O2", "-static", "-s")
CMDLINE = "rdinit=/opinion"
LAST_LINE = "opinion: end"

_STEP = "opinion: step "
_VOLATILE = ("duration_us", "uptime", "pid")
_TAINT_WARN = 1 << 9  # Bochs's CPUID topology makes Linux warn at boot (topology_common.c, parse_legacy())
_ANSWER = re.compile(r"vmx_(probe|user): \d+ (?P<case>.*): (?P<answer>.*)")
_TIME = re.compile(r"^\[ *\d+\.\d+\] ")


@dataclass(frozen=True)
class Opinion:
    """Per step of opinion.sh, the lines that the guest printed, without what varies from run to run."""

    steps: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, console: str) -> Opinion:
        """The opinion in the text of a console, which may have other lines before and after.

        Raises HostFault when it does not go to the end.
        """
        steps: dict[str, tuple[str, ...]] = {}
        name = ""
        for line in console.splitlines():
            if line.startswith(_STEP):
                name = line.removeprefix(_STEP)
                steps[name] = ()
            elif line == LAST_LINE:
                return cls(steps)
            elif name:
                steps[name] += (_settled(line),)
        raise HostFault("a guest did not say all that it was asked", expected=LAST_LINE, found=f"step {name!r}")

    def __str__(self) -> str:
        """The text that `parse` takes."""
        lines = [text for name, said in self.steps.items() for text in (_STEP + name, *said)]
        return "\n".join((*lines, LAST_LINE)) + "\n"


@dataclass(frozen=True)
class Difference:
    """A fact on which two emulators do not agree; an empty side is one that does not say it."""

    step: str
    fact: str  # the line's stable part: an instruction and its case, a field of guestctl's report
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.step}: {self.fact}: {self.first or '(nothing)'} / {self.second or '(nothing)'}"


def differences(first: Opinion, second: Opinion) -> Iterator[Difference]:
    """On what the two do not agree, in the order in which the first says it."""
    for step in dict.fromkeys((*first.steps, *second.steps)):
        ours, theirs = (dict(_facts(opinion.steps.get(step, ()))) for opinion in (first, second))
        for fact in dict.fromkeys((*ours, *theirs)):
            if ours.get(fact) != theirs.get(fact):
                yield Difference(step, fact, ours.get(fact, ""), theirs.get(fact, ""))


@dataclass(frozen=True)
class Explanation:
    """Why two emulators may say different things about the facts that `pattern` finds."""

    pattern: re.Pattern[str]
    reason: str

    @classmethod
    def of(cls, pattern: str, reason: str) -> Explanation:
        return cls(re.compile(pattern), reason)

    def explains(self, difference: Difference) -> bool:
        return self.pattern.search(difference.fact) is not None


def initramfs(kernel: Kernel, folder: Path, deadline: Deadline) -> Path:
    """The project's guest image with opinion.sh and its programs, written into `folder`."""
    module = probe.build(kernel, folder / "vmx_probe", deadline)
    program = folder / "vmx_user"
    process.run(["gcc", *_CFLAGS, "-o", program, _USER], deadline)
    overlay = [
        cpio.file("opinion", _SCRIPT.read_bytes(), 0o755),
        cpio.file("bin/vmx_user", program.read_bytes(), 0o755),
        cpio.file("vmx_probe.ko", module.read_bytes()),
    ]
    image = build_image(kernel, load_recipe(), [], deadline)
    return image.write(folder / "opinion.cpio", cpio.pack(overlay))


def _settled(line: str) -> str:
    """`line` without what varies: JSON loses its volatile fields, the kernel's log its times."""
    if not line.startswith("{"):
        return _TIME.sub("", line)
    report = {name: value for name, value in json.loads(line).items() if name not in _VOLATILE}
    if "tainted" in report:
        report["tainted"] &= ~_TAINT_WARN
    return json.dumps(report)


def _facts(lines: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Each fact with its value. A fact that is said again gets a number: the fourth report of a step is `… (4)`."""
    seen: dict[str, int] = {}
    for line in lines:
        for fact, value in _facts_of_line(line):
            seen[fact] = seen.get(fact, 0) + 1
            yield (f"{fact} ({seen[fact]})" if seen[fact] > 1 else fact), value


def _facts_of_line(line: str) -> Iterator[tuple[str, str]]:
    if line.startswith("{"):
        report = json.loads(line)
        yield from _leaves(f"{report.pop('op')} {report.pop('target')}".strip(), report)
    elif answered := _ANSWER.fullmatch(line):
        yield answered["case"], answered["answer"]
    else:
        yield line, "said"  # a line of the kernel's log, an exit status: what is to agree is that it is there


def _leaves(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(f"{path} {name}", part)
    else:
        yield path, json.dumps(value)
