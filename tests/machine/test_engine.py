import pytest

from harness.errors import UsageError
from harness.machine.engine import ENGINES, NAMES, by_name
from harness.scenario.machine import CpuSection, MachineSection, TdxSection


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
        ("kvm", MachineSection(virt="vmx", cpu=CpuSection(apicv=False)), "CPUs that can be chosen"),
    ],
)
def test_what_a_scenario_s_machine_needs_beyond_the_engine(engine: str, machine: MachineSection, lack: str) -> None:
    found = by_name(engine, "GenuineIntel").lacks(machine)
    assert lack in found and bool(found) == bool(lack)
