import json
import subprocess

import pytest

from harness.errors import UsageError
from harness.machine import toolchain
from harness.machine.engine import ENGINES, NAMES, QEMU_MODELS, by_name
from harness.scenario.machine import CpuSection, MachineSection, TdxSection
from tests.guests import deadline


@pytest.mark.parametrize(
    ("name", "vendor", "module"),
    [
        ("kvm", "GenuineIntel", "kvm_intel"),
        ("kvm", "AuthenticAMD", "kvm_amd"),
        ("kvm", "HygonGenuine", "kvm_amd"),
        ("tcg-svm", "GenuineIntel", "kvm_amd"),
        ("tcg-svm", "AuthenticAMD", "kvm_amd"),
        ("tcg-vmx", "AuthenticAMD", "kvm_intel"),
    ],
)
def test_the_vendor_of_the_host_decides_only_where_its_cpu_is_used(name: str, vendor: str, module: str) -> None:
    assert by_name(name, vendor).extension.module == module


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="expected: kvm, tcg-svm, tcg-vmx, auto"):
        by_name("hvf", "GenuineIntel")


def test_labels_are_unique_and_name_the_extension() -> None:
    labels = [engine.label for engine in ENGINES]
    assert len(set(labels)) == len(labels)
    assert all(engine.extension.name in engine.label for engine in ENGINES)


def test_names_are_in_the_order_of_auto() -> None:
    assert NAMES == ("kvm", "tcg-svm", "tcg-vmx")


@pytest.mark.parametrize(
    ("engine", "machine", "lack"),
    [
        ("tcg-svm", MachineSection(), ""),
        ("tcg-svm", MachineSection(virt="vmx"), "VMX"),
        ("tcg-vmx", MachineSection(virt="svm"), "SVM"),
        ("tcg-vmx", MachineSection(virt="vmx", tdx=TdxSection(), cpu=CpuSection()), ""),
        ("kvm", MachineSection(virt="vmx"), ""),
        ("kvm", MachineSection(virt="vmx", tdx=TdxSection()), "a TDX module"),
        ("kvm", MachineSection(virt="vmx", cpu=CpuSection(model="sapphirerapids")), ""),
        ("kvm", MachineSection(virt="vmx", cpu=CpuSection()), ""),  # graniterapids
        ("kvm", MachineSection(virt="vmx", cpu=CpuSection(model="emeraldrapids")), "CPUs of the model emeraldrapids"),
        ("kvm", MachineSection(virt="vmx", cpu=CpuSection(apicv=False)), "CPUs that can be broken"),
        ("kvm", MachineSection(virt="vmx", cpu=CpuSection(vmxe=[1])), "CPUs that can be broken"),
        ("tcg-svm", MachineSection(cpu=CpuSection(model="sapphirerapids")), "CPUs of the model sapphirerapids"),
    ],
)
def test_what_a_scenario_s_machine_needs_beyond_the_engine(engine: str, machine: MachineSection, lack: str) -> None:
    found = by_name(engine, "GenuineIntel").lacks(machine)
    assert lack in found and bool(found) == bool(lack)


@pytest.mark.parametrize(
    ("engine", "vendor", "model", "cpu"),
    [
        ("kvm", "GenuineIntel", "", ("host",)),
        ("kvm", "GenuineIntel", "sapphirerapids", ("SapphireRapids-v1", "vmx=on")),
        ("kvm", "GenuineIntel", "graniterapids", ("GraniteRapids-v1", "vmx=on")),
        ("kvm", "AuthenticAMD", "graniterapids", ("host",)),  # `lacks` has refused it before
        ("tcg-vmx", "GenuineIntel", "sapphirerapids", ("max",)),  # and the platform's properties
    ],
)
def test_the_cpu_that_qemu_is_asked_for(engine: str, vendor: str, model: str, cpu: tuple[str, ...]) -> None:
    assert by_name(engine, vendor).qemu_cpu(model) == cpu


@pytest.mark.network
@pytest.mark.parametrize("model", QEMU_MODELS)
def test_qemu_s_models_have_vmx_with_ept_only_when_told_so(model: str) -> None:
    """Of the very QEMU, without a guest. TCG, which has no VMX of its own, is made to show what the model has."""
    name, vmx = by_name("kvm", "GenuineIntel").qemu_cpu(model)
    wanted = ("vmx", "vmx-ept", "vmx-unrestricted-guest", "vmx-vpid")
    assert properties(name, wanted) == [False] * 4
    assert properties(f"{name},{vmx}", wanted) == [True] * 4


def properties(cpu: str, names: tuple[str, ...]) -> list[bool]:
    """Properties of the first CPU of a machine that is never started."""
    get = [{"path": "/machine/unattached/device[0]", "property": name} for name in names]
    asked = [
        {"execute": "qmp_capabilities"},
        *({"execute": "qom-get", "arguments": arguments} for arguments in get),
        {"execute": "quit"},
    ]
    qemu = toolchain.find(deadline(600))
    machine = ["-nodefaults", "-display", "none", "-S", "-accel", "tcg", "-cpu", f"{cpu},x-force-features=on"]
    done = subprocess.run(
        [*qemu.argv_prefix, *machine, "-qmp", "stdio"],
        input="".join(json.dumps(command) + "\n" for command in asked),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [answer["return"] for answer in answers if isinstance(answer.get("return"), bool)]
