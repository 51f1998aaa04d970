"""`harness worker`: this host as a worker of a lab."""

from __future__ import annotations

import click

from harness.deadline import Deadline
from harness.errors import Exit, HostFault, UsageError
from harness.fleet.resources import NAMES, proven
from harness.machine.host import cpus

_PROVE_S = 1200.0  # QEMU and a kernel to fetch on a slow line, and one boot per engine


@click.command()
@click.argument("scheduler", metavar="tcp://HOST:PORT")
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), metavar="N", help="Runs at a time; without it, one per CPU."
)
@click.option(
    "--only",
    "chosen",
    multiple=True,
    type=click.Choice(NAMES),
    help="Announce this, of what works here (repeatable); without it, all.",
)
def worker(scheduler: str, jobs: int | None, chosen: tuple[str, ...]) -> int:
    """Do the runs of a lab's nights on this host.

    \b
    dask scheduler                                     # once, on a host that all others reach
    harness worker tcp://lab:8786                      # on each host that is to do runs
    harness matrix nightly.yaml --scheduler tcp://lab:8786

    \b
    Each way of having virtualization is tried with a guest first, as by `harness doctor`; what works is announced:
      kvm-vmx, kvm-svm   the CPU's own, nested
      tcg                SVM, emulated by QEMU
      tdx                VMX and a TDX module, emulated by this project's platform

    Ends when the scheduler does. Needs the extra `lab`: pip install 'virt-ordering-harness[lab]'.
    """
    try:
        from harness.fleet.lab import serve
    except ImportError as error:
        raise lab_is_missing(error) from error
    resources = [
        name for name in proven(Deadline.after(_PROVE_S, "the engines of this host")) if name in (chosen or NAMES)
    ]
    if not resources:
        raise HostFault(
            "this host has nothing to announce", hint="`harness doctor` tries each engine, and says what to do"
        )
    serve(scheduler, resources, jobs or cpus())
    return int(Exit.CONFIRMED)


def lab_is_missing(error: ImportError) -> UsageError:
    """What to say where Dask is not installed."""
    return UsageError(
        f"a lab needs Dask, which is not installed: {error}", hint="pip install 'virt-ordering-harness[lab]'"
    )
