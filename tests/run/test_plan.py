"""Plans: what a run would do, said without doing any of it; and its command, pasted."""

from __future__ import annotations

from pathlib import Path

import pexpect
import pytest

from harness.cache import NotInCache, locked, reading_only, require_making, staged_dir
from harness.errors import UsageError
from harness.kernels.model import BuildOptions
from harness.machine import toolchain
from harness.machine.auto import Tools
from harness.machine.engine import by_name
from harness.machine.toolchain import Qemu
from harness.paths import PROJECT
from harness.run import Job
from harness.run.plan import plan
from harness.scenario.load import load_scenario
from tests.guests import deadline, kernel

QEMU = Qemu(("qemu-system-x86_64",), "11.1.3", "a test")
DEMO = PROJECT / "scenarios" / "demo.yaml"


def job(path: Path, kernel: str, engine: str = "tcg-svm", options: BuildOptions | None = None) -> Job:
    return Job(load_scenario(path), kernel, by_name(engine, ""), QEMU, options or BuildOptions())


@pytest.fixture
def nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "modules_only", "to_come"),
    [
        ("debian:6.12", "", "it would be fetched from Debian"),
        ("debian:6.12", "kvm", "its KVM modules would be built"),
        ("debian-source:7.3+tdx", "", "it would be compiled"),
    ],
)
def test_a_kernel_that_is_not_there_is_neither_fetched_nor_built(
    spec: str, modules_only: str, to_come: str, nothing_there: Path
) -> None:
    lines = list(plan(job(DEMO, spec, options=BuildOptions(modules_only=modules_only)), "asked for").lines())
    assert any(line.startswith("  kernel ") and to_come in line for line in lines), lines
    assert any("hold rebooting" in line and "120 s" in line for line in lines)
    assert [path for path in nothing_there.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_plan_has_the_errors_of_a_run(nothing_there: Path) -> None:
    with pytest.raises(UsageError, match="neither a version nor a suite"):
        plan(job(DEMO, "debian:nonsense"), "asked for")


def test_qemu_and_engines_that_are_not_there_are_foreseen(
    nothing_there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_QEMU", raising=False)
    monkeypatch.setenv("PATH", str(nothing_there))
    with reading_only():
        qemu = toolchain.foreseen()
        assert "would be unpacked first" in qemu.origin
        machine = load_scenario(DEMO).machine
        assert Tools("tcg-svm", qemu).foreseen(machine)[1] == "asked for"
        assert "would be tried with a guest first" in Tools("auto", qemu).foreseen(machine)[1]


def test_reading_only_lets_nothing_be_made_and_ends(tmp_path: Path) -> None:
    with reading_only():
        with pytest.raises(NotInCache, match="the moon is not in the cache"):
            require_making("the moon")
        with locked(tmp_path / "x.lock", deadline()), pytest.raises(NotInCache), staged_dir(tmp_path / "x"):
            pass
    require_making("the moon")
    with staged_dir(tmp_path / "x"):
        pass
    assert (tmp_path / "x").is_dir()


@pytest.mark.network
def test_a_plan_of_what_is_there_names_probes_points_holders_and_steps() -> None:
    assert kernel().release
    text = "\n".join(plan(job(DEMO, "debian:6.12"), "asked for").lines())
    assert f"{kernel().release}, in the cache as {kernel().key}" in text
    assert "vendor_enable (kvm_amd:svm_enable_virtualization_cpu)" in text
    assert "rebooting at the call of device_shutdown by reboot, soft, held by the gdbstub" in text
    assert "actor reboot: reboot force" in text
    on_vmx = "\n".join(plan(job(DEMO, "debian:6.12", "tcg-vmx"), "asked for").lines())
    assert "soft, held by the plugin" in on_vmx
    assert "# left out here: the plugin" in on_vmx


@pytest.mark.network
def test_what_cannot_be_exercised_is_said_before() -> None:
    assert kernel().release
    bring_up = PROJECT / "scenarios" / "tdx" / "bring-up.yaml"
    assert any(
        "not exercised: the scenario needs VMX" in line for line in plan(job(bring_up, "debian:6.12"), "").lines()
    )


@pytest.mark.boot
def test_the_command_of_a_plan_boots_when_it_is_pasted(tmp_path: Path) -> None:
    scenario = PROJECT / "scenarios" / "load-unload.yaml"
    real = Job(load_scenario(scenario), "debian:6.12", by_name("tcg-svm", ""), toolchain.find(deadline()))
    made = plan(real, "asked for")
    assert any(label == "image" and "initramfs" in lines[0] for label, lines in made.facts), "run the scenario once"
    shell = pexpect.spawn("/bin/sh", ["-c", made.command], cwd=str(tmp_path), encoding="utf-8", timeout=120)
    try:
        # Without the keys of a run there is no SSH server; everything else is there.
        said = ("ready", "failed dropbear", r"failed \w+")  # the first that fits
        assert shell.expect([rf"harness: {words}\s" for words in said]) < 2
    finally:
        shell.close(force=True)
    assert list(tmp_path.iterdir()) == []
