"""Snapshots of booted guests: when a run goes on from one, which one, and what becomes of one that is broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness.bench.caches import borrowed_cache
from harness.errors import Exit
from harness.guest.boot import GuestPlan
from harness.images.initramfs import boot_modules
from harness.judge.record import load_record
from harness.judge.verdict import Verdict
from harness.kernels import BuildOptions, Kernel, resolve
from harness.machine import toolchain
from harness.machine.argv import MachineSpec
from harness.machine.engine import by_name
from harness.machine.host import host_cpu, this_host
from harness.paths import PROJECT
from harness.platform import build
from harness.probes.kallsyms import symbol_table
from harness.report.result import RunResult
from harness.run import Job, run_job, warm
from harness.run.warm import cold_reason, snapshot_key, trim, warm_guest
from harness.scenario.load import load_scenario
from tests import guests
from tests.guests import deadline

SCENARIO = """\
title: t
claims: [{id: c, text: it holds, source: here}]
kernels: [debian:6.12]
machine: {cpus: 2, memory: 512}
trace: [vendor_enable, vendor_disable, register_syscore]
steps:
  - load: kvm_vendor
  - sample: loaded
  - unload: [kvm_vendor, kvm]
expect:
  - order: [vendor_enable.return@each, register_syscore]
    during: load
  - count: {event: vendor_disable, per: cpu, is: 1}
    during: unload
  - never: {event: vendor_disable, during: load}
  - virt: {at: loaded, on: all}
  - dmesg: {present: "Linux version"}
"""

# Everything of the user's cache but the snapshots.
SHARED = ("apt", "kernels", "images", "symbols", "qemu", "plugin", "toolchains", "proofs.json", "sources")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache without snapshots."""
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    with borrowed_cache(tmp_path, SHARED) as folder:
        yield folder


def job(tmp_path: Path, text: str = SCENARIO, engine: str = "tcg-vmx", cold: bool = False) -> Job:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    return Job(load_scenario(path), "debian:6.12", by_name(engine, ""), toolchain.find(deadline(600)), cold=cold)


def how(result: RunResult) -> tuple[str, str]:
    start = json.loads((result.folder / "run.json").read_text())["start"]
    return start["how"], start.get("why", "")


def verdicts(result: RunResult) -> list[tuple[Verdict, list[str]]]:
    return [(claim.verdict, [found.finding.value for found in claim.findings]) for claim in result.judgement.claims]


# --- when ---------------------------------------------------------------------------------------------------

KERNEL = Kernel("debian:6.12", "6.12.95", Path("vmlinuz"), {}, None)


@pytest.mark.parametrize(
    ("old", "new", "engine", "reason"),
    [
        ("", "", "tcg-vmx", ""),
        ("", "", "tcg-svm", ""),
        ("    during: load", "    during: boot", "tcg-vmx", "an expectation looks at the boot"),
        ("    during: load", "    during: [boot, load]", "tcg-vmx", "an expectation looks at the boot"),
        ("memory: 512", "memory: 512, virt: vmx, tdx: {}", "tcg-vmx", "the TDX module is at work from the boot on"),
        ("", "", "kvm", ""),
    ],
)
def test_a_run_boots_by_itself_where_the_boot_matters(
    old: str, new: str, engine: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(SCENARIO.replace(old, new, 1))
    assert cold_reason(load_scenario(path), KERNEL, by_name(engine, ""), ()) == reason


@pytest.mark.network
def test_functions_of_modules_that_init_loads_are_prepared_before_the_boot(tmp_path: Path) -> None:
    kernel = guests.kernel()
    path = tmp_path / "t.yaml"
    path.write_text(SCENARIO)
    scenario, engine = load_scenario(path), by_name("tcg-vmx", "")
    loaded = sorted(boot_modules(kernel))[0]
    assert cold_reason(scenario, kernel, engine, ["kvm", "kvm_intel"]) == ""
    assert cold_reason(scenario, kernel, engine, ["kvm", loaded]).startswith(f"it is about functions of {loaded}")


# --- which --------------------------------------------------------------------------------------------------


@pytest.mark.network
def test_what_a_guest_is_made_of_decides_about_its_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = toolchain.find(deadline(600))
    plan = GuestPlan(guests.kernel(), by_name("tcg-vmx", ""), qemu, MachineSpec(cpus=2))

    def key(other: GuestPlan) -> str:
        return snapshot_key(other, deadline())

    same = key(plan)
    assert key(replace(plan, spec=MachineSpec(cpus=2))) == same
    others = [
        replace(plan, kernel=resolve("debian:6.1", BuildOptions(), deadline(900))),
        replace(plan, engine=by_name("tcg-svm", "")),
        replace(plan, qemu=replace(qemu, version="11.1.99")),
        replace(plan, spec=MachineSpec(cpus=3)),
        replace(plan, spec=MachineSpec(cpus=2, memory_mib=513)),
        replace(plan, spec=MachineSpec(cpus=2, cmdline="preempt=full")),
        replace(plan, modules=("kvm_amd",)),
    ]
    keys = [key(other) for other in others]
    assert len({same, *keys}) == len(keys) + 1
    sources = shutil.copytree(build.SOURCES, tmp_path / "plugin")
    monkeypatch.setattr(build, "SOURCES", sources)
    assert key(plan) == same
    with (sources / "msr.c").open("a") as file:
        file.write("/* another plugin */\n")
    assert key(plan) != same


@pytest.mark.network
def test_a_guest_with_the_hosts_own_cpus_stays_with_hosts_like_it(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = GuestPlan(guests.kernel(), by_name("kvm", ""), toolchain.find(deadline(600)), MachineSpec())

    def keys() -> tuple[str, str]:
        return snapshot_key(machine, deadline()), snapshot_key(replace(machine, engine=tcg), deadline())

    tcg = by_name("tcg-svm", "")
    kvm_here, tcg_here = keys()
    monkeypatch.setattr(warm, "host_cpu", lambda: replace(host_cpu(), flags=frozenset({"vmx"})))
    kvm_there, tcg_there = keys()
    assert kvm_there != kvm_here
    assert tcg_there == tcg_here
    monkeypatch.undo()
    other = replace(this_host(()), kernel="6.1.0-other")
    monkeypatch.setattr(warm, "this_host", lambda modules: other)
    assert keys()[0] not in (kvm_here, kvm_there)


def entry(store: Path, name: str, megabytes: int, age: float) -> Path:
    folder = store / name
    folder.mkdir(parents=True)
    (folder / "machine.state").write_bytes(b"x" * (megabytes << 20))
    (store / f"{name}.lock").touch()
    os.utime(folder, (time.time() - age,) * 2)
    return folder


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    old, new, used = (entry(tmp_path, name, 2, age) for name, age in (("a", 9000), ("b", 2000), ("c", 5)))
    trim(tmp_path, 5 << 20)
    assert [folder.exists() for folder in (old, new, used)] == [False, True, True]
    trim(tmp_path, 0)
    assert [folder.exists() for folder in (new, used)] == [False, True], "what may be in use stays"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".gone")]


# --- on real guests -----------------------------------------------------------------------------------------


@pytest.mark.boot
@pytest.mark.network
@pytest.mark.parametrize("engine", ["tcg-vmx", "tcg-svm"])
def test_a_warm_run_is_judged_like_a_cold_one(tmp_path: Path, cache: Path, engine: str) -> None:
    cold = run_job(job(tmp_path, engine=engine, cold=True))
    assert not (cache / "snapshots").exists()
    first, second = (run_job(job(tmp_path, engine=engine)) for _ in range(2))
    assert how(cold) == ("boot", "asked for")
    assert how(first) == how(second) == ("snapshot", "")
    assert cold.exit is Exit.CONFIRMED
    assert verdicts(cold) == verdicts(first) == verdicts(second)
    records = [load_record(result.folder) for result in (cold, first, second)]
    assert len({(record.online, record.armed, record.by_platform, record.complete) for record in records}) == 1
    assert [dict(record.lost) | dict(record.lost_by_platform) for record in records] == [{1: 0}] * 3
    # The boot is there: on the console, in the kernel's log, and as the platform saw it.
    for record in records:
        assert sum("Linux version" in line for line in record.console.lines) == 1
        assert sum(line.startswith("harness: ready") for line in record.console.lines) == 1
        assert "Linux version" in (record.folder / "dmesg.txt").read_text()
        assert any("Linux version" in line for line in record.samples["loaded"].console)
    sipis = [[event.cpu for event in record.events if event.name == "sipi"] for record in records]
    assert sipis[0] == sipis[1] == sipis[2] == ([1] if engine == "tcg-vmx" else [])


@pytest.mark.boot
@pytest.mark.network
def test_a_warm_guest_reboots_into_a_guest_like_any_other(tmp_path: Path, cache: Path) -> None:
    text = SCENARIO.split("steps:")[0] + (
        "steps:\n  - reboot: force\n  - boot: next\n  - load: kvm_vendor\n"
        "expect:\n  - exit: {load: OK}\n  - order: [vendor_enable.return@each, register_syscore]\n    during: load\n"
        "  - virt: {at: reset, on: none}\n"
    )
    result = run_job(job(tmp_path, text.replace("vendor_disable, ", "")))
    assert (how(result), result.exit) == (("snapshot", ""), Exit.CONFIRMED), result.fault


def state_of(cache: Path) -> Path:
    (state,) = (cache / "snapshots").glob("*/machine.state")
    return state


@pytest.mark.boot
@pytest.mark.network
def test_a_broken_snapshot_is_thrown_away_and_the_guest_boots(
    tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert how(run_job(job(tmp_path))) == ("snapshot", "")
    state = state_of(cache)
    os.truncate(state, state.stat().st_size - 4096)
    result = run_job(job(tmp_path))
    assert (how(result), result.exit) == (("boot", "there is no snapshot that is whole"), Exit.CONFIRMED)
    assert "is damaged; the guest boots" in " ".join(capfd.readouterr().err.split())
    assert not state.exists()

    # As long as before, and not what QEMU wrote: found out by QEMU itself.
    assert how(run_job(job(tmp_path))) == ("snapshot", "")
    with state_of(cache).open("r+b") as file:
        file.write(os.urandom(4096))
    result = run_job(job(tmp_path))
    assert (how(result), result.exit) == (("boot", "there is no snapshot that is whole"), Exit.CONFIRMED)
    record = load_record(result.folder)
    assert sum("Linux version" in line for line in record.console.lines) == 1
    assert not list((cache / "snapshots").glob("*/machine.state"))


@pytest.mark.boot
@pytest.mark.network
def test_two_runs_at_once_make_one_snapshot(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    qemu = toolchain.find(deadline(600))
    plan = GuestPlan(guests.kernel(), by_name("tcg-svm", ""), qemu, MachineSpec(cpus=1))
    symbols = symbol_table(plan.kernel, qemu)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: warm_guest(plan, symbols), range(2))
    assert first == second
    assert first is not None
    assert capfd.readouterr().err.count("snapshot of the booted guest") == 1
    assert not (first / "boot").exists()


_WARM_GUEST = """
from harness.deadline import Deadline
from harness.guest.boot import GuestPlan
from harness.machine import toolchain
from harness.machine.argv import MachineSpec
from harness.machine.engine import by_name
from harness.probes.addresses import SymbolTable
from harness.run.warm import warm_guest
from tests import guests
plan = GuestPlan(guests.kernel(), by_name("tcg-svm", ""), toolchain.find(guests.deadline()), MachineSpec(cpus=1))
print(warm_guest(plan, SymbolTable(())))
"""


@pytest.mark.network
def test_without_room_on_the_disk_there_is_no_snapshot(cache: Path) -> None:
    """A real file system of 1 MB, in a mount namespace of its own."""
    store = cache / "snapshots"
    store.mkdir()
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    inside += [f'mount -t tmpfs -o size=1m none {store} && "$@" && find {store} -type f', "sh"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this host does not let a user make a mount namespace")
    environment = {**os.environ, "HARNESS_CACHE": str(cache), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [*inside, sys.executable, "-c", _WARM_GUEST], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[0] == "None", done.stderr
    assert "no snapshot: less than 1.0 GiB are free" in " ".join(done.stderr.split())


ALIKE = [
    *(("load-unload.yaml", kernel, engine) for kernel in ("6.1", "6.12", "7.3") for engine in ("tcg-svm", "tcg-vmx")),
    *(("reboot.yaml", kernel, "tcg-vmx") for kernel in ("6.1", "7.3")),
    *((name, "7.3", "tcg-vmx") for name in ("hotplug.yaml", "suspend.yaml", "kexec.yaml", "vcpu-hotplug.yaml")),
    *((name, "6.12", "tcg-svm") for name in ("power-off.yaml", "panic.yaml", "vm-lifecycle.yaml")),
]


@pytest.mark.boot
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize(("name", "kernel", "engine"), ALIKE, ids=["-".join(case) for case in ALIKE])
def test_the_project_s_scenarios_are_judged_alike(
    name: str, kernel: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    scenario = load_scenario(PROJECT / "scenarios" / name)
    warm = Job(scenario, f"debian:{kernel}", by_name(engine, ""), toolchain.find(deadline(600)))
    results = [run_job(replace(warm, cold=cold)) for cold in (True, False)]
    assert [how(result)[0] for result in results] == ["boot", "snapshot"]
    assert verdicts(results[0]) == verdicts(results[1])
