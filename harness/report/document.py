"""The JSON document of a judged run, as types: mypy checks its writer by them, and its schema is made of them.

Compatible changes (a new field) leave RESULT_FORMAT alone; readers ignore fields that they do not know. A field that
changes its meaning or goes away raises it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from harness.scenario.kinds import Phase
from harness.scenario.model import VerdictName

RESULT_FORMAT: Final = 1

VerdictWord = Literal["confirmed", "violated", "not exercised", "harness fault"]


class EventDocument(TypedDict):
    """Something that the kernel did."""

    boot: Annotated[int, Field(ge=1, description="which boot of the run, from 1")]
    seq: Annotated[int | None, Field(description="place in the order of all CPUs of a boot; null: unordered")]
    cpu: Annotated[int, Field(ge=0)]
    source: Annotated[str, Field(description="tracefs, platform or gdbstub")]
    name: Annotated[str, Field(description="function, tracepoint, step, point or event of the platform")]
    phase: Phase
    task: NotRequired[str]
    pid: NotRequired[int]
    args: NotRequired[dict[str, str | int]]
    ret: NotRequired[Annotated[int, Field(description="the return register as a signed 64-bit number")]]


class FindingDocument(TypedDict):
    """What the run says about one expectation, or about the run as a whole."""

    finding: Literal["held", "failed", "unseen"]
    expectation: Annotated[str | None, Field(description="its kind; null for what concerns the whole run")]
    text: Annotated[str, Field(description="one sentence")]
    events: Annotated[list[EventDocument], Field(description="the fewest that prove it")]
    evidence: NotRequired[Annotated[list[str], Field(description="what proves it otherwise, such as stacks")]]


class ClaimDocument(TypedDict):
    """A claim's verdict, with all findings that it rests on."""

    id: str
    text: str
    source: str
    verdict: VerdictWord
    known: Annotated[VerdictName | None, Field(description="what the scenario declares for this kernel")]
    findings: list[FindingDocument]


class HostDocument(TypedDict):
    """The machine that ran the guest; on engine kvm its CPUs are the guest's."""

    vendor: Annotated[str, Field(description="vendor_id of its CPUs")]
    cpu: Annotated[str, Field(description="their model name")]
    kernel: Annotated[str, Field(description="its uname -r")]
    hypervisor: Annotated[str, Field(description="that runs it: KVM, QEMU TCG …; empty on bare metal")]
    hardware: Annotated[str, Field(description="maker and product by DMI; empty where there is no DMI")]
    nested: Annotated[dict[str, str], Field(description="`nested` of its KVM modules that are loaded")]
    emulated: Annotated[bool, Field(description="whether its CPUs are QEMU's TCG")]


class ResultDocument(TypedDict):
    """A scenario on one kernel and engine, judged."""

    format: Annotated[Literal[1], Field(description="raised when a field changes its meaning")]
    scenario: Annotated[str, Field(description="the file's name without its ending; #N: its Nth permutation")]
    title: str
    kernel: Annotated[str, Field(description="as it was asked for, with its patches: debian:6.12 +fix")]
    release: Annotated[str, Field(description="uname -r")]
    engine: str
    folder: Annotated[str, Field(description="the run's folder, on the host that ran it")]
    seconds: Annotated[float, Field(ge=0, description="without fetching or building the kernel; 0: judged again")]
    exit: Annotated[int, Field(ge=0, le=4, description="exit status: 0 exactly when all verdicts are as declared")]
    fault: Annotated[str, Field(description="what ended the run early, else empty")]
    claims: list[ClaimDocument]
    started: NotRequired[Annotated[str, Field(description="ISO 8601, with the offset from UTC")]]
    version: NotRequired[Annotated[str, Field(description="the numbers of `release`")]]
    key: NotRequired[Annotated[str, Field(description="of the kernel's build in the cache: same key, same kernel")]]
    provenance: NotRequired[
        Annotated[dict[str, Any], Field(description="packages, commit, patches, configuration and compiler")]
    ]
    host: NotRequired[HostDocument]


def result_schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of one result document, or of a list of them, as `--json` writes it."""
    schema = TypeAdapter(ResultDocument | list[ResultDocument]).json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:virt-ordering-harness:result:{RESULT_FORMAT}",
        "title": "result",
        **schema,
    }
