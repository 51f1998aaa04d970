"""Hosts whose KVM is of no use: real devices where this host has them, recorded ones where it has not."""

from __future__ import annotations

import os
import re
import string
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from harness.machine import kvm
from harness.machine.engine import SVM, VMX, Extension
from harness.machine.host import KVM_DEVICE, HostCpu
from harness.machine.kvm import CASES, RIVALS, KvmHost, look, this_kvm_host, without_nesting

AMD = HostCpu("AuthenticAMD", "AMD EPYC 9654 96-Core Processor", frozenset({"fpu", "svm"}))
INTEL = HostCpu("GenuineIntel", "Intel(R) Xeon(R) Platinum 8480+", frozenset({"fpu", "vmx", "ept", "vpid"}))
LESS = HostCpu("AuthenticAMD", "AMD EPYC", frozenset({"fpu", "hypervisor"}))  # of a machine without nesting

OTHER_UID = "65534"
WORDS = {"errno", "numbers", "mode", "admit", "answer", "cpu", "ending", "said", "line", "seconds"}


def recorded(root: Path, modules: Mapping[str, Mapping[str, str]], registered: bool = False) -> Path:
    """A tree like /sys, with these parameters of modules, and with KVM's device registered."""
    for module, parameters in modules.items():
        folder = root / "module" / module / "parameters"
        folder.mkdir(parents=True)
        for name, value in parameters.items():
            (folder / name).write_text(f"{value}\n")
    if registered:
        (root / "class/misc/kvm").mkdir(parents=True)
        (root / "class/misc/kvm/dev").write_text("10:232\n")
    return root


def entries(*found: tuple[int, int]) -> bytes:
    """An array of struct kvm_cpuid_entry2: functions, with their ECX."""
    return b"".join(struct.pack("<10I", leaf, 0, 0, 0, 0, ecx, 0, 0, 0, 0) for leaf, ecx in found)


NESTED = entries((1, 0x8120_2020), (0x8000_0001, 0x40_0397))  # both bits, as no CPU has them
BARE = entries((1, 0x8120_2000), (0x8000_0001, 0x40_0393))  # of a KVM that gives neither


# --- without a device -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpu", "hypervisor", "modules", "registered", "case", "advice"),
    [
        (AMD, "", {}, False, "no module", "modprobe kvm_amd"),
        (INTEL, "", {}, False, "no module", "modprobe kvm_intel"),
        (AMD, "", {"kvm_amd": {"nested": "1"}}, True, "no node", "mknod /dev/kvm c 10 232"),
        (LESS, "KVM", {}, False, "not given to this host", "in the hypervisor that runs it"),
        (HostCpu("AuthenticAMD", "EPYC", frozenset()), "", {}, False, "off in firmware", "SVM Mode (AMD-V) on"),
        (HostCpu("GenuineIntel", "Xeon", frozenset()), "", {}, False, "off in firmware", "(VT-x) on"),
    ],
)
def test_a_device_that_is_absent(
    cpu: HostCpu,
    hypervisor: str,
    modules: dict[str, dict[str, str]],
    registered: bool,
    case: str,
    advice: str,
    tmp_path: Path,
) -> None:
    host = KvmHost(cpu, hypervisor, tmp_path / "kvm", recorded(tmp_path / "sys", modules, registered))
    found = look(VMX if cpu.vendor == "GenuineIntel" else SVM, host)
    assert found is not None
    assert found.case == case
    assert advice in found.advice


def test_a_module_that_another_hypervisor_keeps_from_loading(tmp_path: Path) -> None:
    host = KvmHost(AMD, "", tmp_path / "kvm", recorded(tmp_path / "sys", {"vboxdrv": {}}))
    found = look(SVM, host)
    assert found is not None
    assert "kvm_amd is not loaded; vboxdrv is loaded" in found.found
    assert "EIO" in found.advice and "enabling virtualization on CPU" in found.advice
    assert "modprobe -r vboxnetadp vboxnetflt vboxdrv" in found.advice


# --- devices that are no KVM, for real --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_what_is_not_kvm_s_does_not_answer(kind: str, tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch() if kind == "file" else os.mkfifo(device)
    found = look(SVM, KvmHost(AMD, "", device, tmp_path))
    assert found is not None
    assert found.case == "not KVM's"
    assert "ENOTTY" in found.found and str(device) in found.found


def test_what_cannot_be_opened_is_quoted(tmp_path: Path) -> None:
    found = look(SVM, KvmHost(AMD, "", tmp_path, tmp_path))  # a folder
    assert found is not None
    assert (found.case, found.found) == ("does not open", f"{tmp_path}: EISDIR (Is a directory)")


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users can look into, as they can not into pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_another_user(device: Path) -> list[str]:
    """The case, what was found and the advice for a user whom nobody has let in."""
    program = (
        "import sys; from pathlib import Path\n"
        "from harness.machine.kvm import *; from harness.machine.engine import SVM\n"
        "found = look(SVM, KvmHost(this_kvm_host().cpu, '', Path(sys.argv[1])))\n"
        "print(found.case, found.found, found.advice, sep='\\n')"
    )
    user = ["setpriv", "--reuid", OTHER_UID, "--clear-groups"]
    done = subprocess.run(
        [*user, sys.executable, "-c", program, str(device)], capture_output=True, text=True, check=True, cwd="/"
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_permission_denied_says_who_may_and_how_to_become_one(public: Path) -> None:
    device = public / "kvm"
    device.touch(mode=0o660)
    os.chown(device, 0, 107)
    device.chmod(0o660)
    case, found, advice = as_another_user(device)
    assert case == "no permission"
    assert re.search(rf"permission denied: {device} is -rw-rw---- root \S+", found)
    assert "adduser $USER" in advice and "chgrp" not in advice
    device.chmod(0o600)
    assert "chgrp kvm" in as_another_user(device)[2]
    public.chmod(0o700)
    assert "lets nobody in" in as_another_user(device)[1]


# --- this host's own KVM ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.access(KVM_DEVICE, os.R_OK | os.W_OK), reason="no /dev/kvm")
def test_a_kvm_that_makes_no_vm_is_quoted() -> None:
    """A VM is a file descriptor, and there can be none left."""
    program = (
        "import os, resource; from harness.machine.kvm import *; from harness.machine.engine import SVM\n"
        "host = this_kvm_host()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\n"
        "found = look(SVM, host)\n"
        "print(found.case, found.found, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["no VM", "KVM_CREATE_VM: EMFILE (Too many open files)"]


@pytest.mark.skipif(not os.access(KVM_DEVICE, os.R_OK | os.W_OK), reason="no /dev/kvm")
def test_this_host_s_kvm_gives_what_its_parameter_says() -> None:
    host = this_kvm_host()
    for extension in (SVM, VMX):
        nested = host.parameter(extension.module, "nested") in ("Y", "1")
        assert (look(extension, host) is None) is nested


def test_nothing_stays_open() -> None:
    def descriptors() -> list[str]:
        return sorted(path.name for path in Path("/proc/self/fd").iterdir())

    before = descriptors()
    look(SVM, this_kvm_host())
    assert descriptors() == before


# --- a KVM that gives its guests nothing ------------------------------------------------------------------------


@pytest.mark.parametrize("extension", [SVM, VMX])
def test_kvm_s_own_cpuid_decides_and_not_the_parameter(extension: Extension, tmp_path: Path) -> None:
    host = KvmHost(AMD, "", sys=recorded(tmp_path, {extension.module: {"nested": "N"}}))
    assert without_nesting(NESTED, extension, host) is None
    assert without_nesting(BARE, extension, host) is not None


@pytest.mark.parametrize(
    ("extension", "cpu", "hypervisor", "modules", "case", "said"),
    [
        (VMX, INTEL, "", {"kvm_intel": {"nested": "N"}}, "nesting off", "kvm_intel is loaded with nested=N"),
        (SVM, AMD, "", {"kvm_amd": {"nested": "0"}}, "nesting off", "kvm_amd is loaded with nested=0"),
        (SVM, LESS, "KVM", {"kvm_pvm": {}}, "paravirtual", "KVM here is kvm_pvm"),
        (SVM, AMD, "Hyper-V", {"kvm_amd": {"nested": "1"}}, "no nesting", "although kvm_amd has nested=1"),
        (SVM, LESS, "KVM", {}, "not given to this host", "itself a guest (KVM)"),
    ],
)
def test_why_a_kvm_gives_no_extension(
    extension: Extension,
    cpu: HostCpu,
    hypervisor: str,
    modules: dict[str, dict[str, str]],
    case: str,
    said: str,
    tmp_path: Path,
) -> None:
    found = without_nesting(BARE, extension, KvmHost(cpu, hypervisor, sys=recorded(tmp_path, modules)))
    assert found is not None
    assert (found.case, said in found.found) == (case, True)


@pytest.mark.parametrize(("extension", "module"), [(SVM, "kvm_amd"), (VMX, "kvm_intel")])
def test_the_commands_that_turn_nesting_on(extension: Extension, module: str) -> None:
    advice = KvmHost(AMD, "").obstacle("nesting off", extension).advice
    assert f"modprobe -r {module} && modprobe {module} nested=1" in advice
    assert f"echo 'options {module} nested=1' > /etc/modprobe.d/" in advice
    assert f"{module}.nested=1 on its command line" in advice


def test_who_has_the_cpus_is_named_with_the_way_to_be_rid_of_it(tmp_path: Path) -> None:
    told = "EBUSY (Device or resource busy)"
    found = KvmHost(INTEL, "", sys=recorded(tmp_path, {"vmmon": {}})).obstacle("busy", VMX, errno=told)
    assert told in found.found and "vmmon is loaded" in found.found
    assert RIVALS["vmmon"] in found.advice
    unknown = KvmHost(INTEL, "", sys=tmp_path / "none").obstacle("busy", VMX, errno=told)
    assert "vmmon" not in unknown.found and "boot of this host" in unknown.advice


# --- the table --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("hypervisor", ["", "KVM"])
def test_every_case_says_what_was_expected_and_found_and_what_to_do(case: str, hypervisor: str) -> None:
    words = {word: f"<{word}>" for word in WORDS - {"seconds"}}
    found = KvmHost(AMD, hypervisor).obstacle(case, SVM, **words, seconds=30.0)
    assert found.expected and found.found and found.advice
    assert not set("{}") & set(found.expected + found.found + found.advice)
    assert all(text == text.strip() for text in (found.expected, found.found, found.advice))


def test_no_two_cases_are_told_alike() -> None:
    assert len({(row.expected, row.found) for row in CASES.values()}) == len(CASES)
    used = {
        name
        for row in CASES.values()
        for text in vars(row).values()
        for _, name, _, _ in string.Formatter().parse(text)
    }
    assert used & WORDS == WORDS, "a word that no case has"


def test_the_ioctl_numbers_are_those_of_the_kernel_s_header() -> None:
    """_IO(KVMIO, n) and _IOWR(KVMIO, 5, struct kvm_cpuid2), by include/uapi/asm-generic/ioctl.h."""
    kvmio, header = 0xAE, 8  # of struct kvm_cpuid2, whose entries have no size of their own
    assert [kvmio << 8 | number for number in (0, 1)] == [kvm._GET_API_VERSION, kvm._CREATE_VM]
    read_write = 3 << 30 | header << 16 | kvmio << 8
    assert kvm._GET_SUPPORTED_CPUID - read_write == 5
    assert kvm._CPUID_ENTRY.size == 40
