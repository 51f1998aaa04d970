"""What the emulated CPUs say of themselves, and what a scenario's faults make of it."""

import re

import pytest

from harness.errors import UsageError
from harness.platform.build import SOURCES
from harness.platform.config import PlatformConfig
from harness.platform.cpu import CAPABILITIES, CONTROLS, FEAT_CTL, KEYID_PARTITIONING, MODELS, CpuConfig
from harness.platform.tdx import ModuleConfig

PIN, TRUE_PIN, PROC2, EPT_VPID = 0x481, 0x48D, 0x48B, 0x48C


def msrs(config: CpuConfig, cpu: int) -> dict[int, int]:
    """What CPU `cpu` reads after power-on."""
    return {msr.number: msr.value for msr in config.msrs() if msr.cpu in (None, cpu)}


def allowed(msr: int, bit: int) -> bool:
    return bool(msr >> 32 >> bit & 1)


def test_without_faults_all_cpus_are_alike_and_have_everything() -> None:
    found = msrs(CpuConfig(), 0)
    assert found == {FEAT_CTL: 5, **CAPABILITIES}
    assert all(msr.cpu is None for msr in CpuConfig().msrs())


@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_is_there_to_be_taken_away(name: str) -> None:
    for number, mask in CONTROLS[name].clear.items():
        assert CAPABILITIES[number] & mask, f"{number:#x} has nothing of {name}"


@pytest.mark.parametrize("name", CONTROLS)
def test_what_a_cpu_must_have_is_no_control(name: str) -> None:
    """A control that is not allowed to be 0 (SDM appendix A, allowed 0-settings) cannot be missing either."""
    for number, mask in CONTROLS[name].clear.items():
        if number != EPT_VPID:
            assert not CAPABILITIES[number] & mask >> 32


def test_a_vmcs_is_as_large_as_the_plugin_makes_it() -> None:
    """Linux zeroes as much of a new VMCS as IA32_VMX_BASIC says (bits 44:32), and the plugin's fields are in it."""
    (size,) = re.findall(r"#define VMCS_SIZE (\d+)", (SOURCES / "vmcs.h").read_text())
    assert CAPABILITIES[0x480] >> 32 & 0x1FFF == int(size)


def test_a_cpu_that_differs() -> None:
    config = CpuConfig(lacking={2: ("pause_loop_exiting",)})
    assert allowed(msrs(config, 0)[PROC2], 10)
    assert not allowed(msrs(config, 2)[PROC2], 10)
    assert {msr.number for msr in config.msrs() if msr.cpu == 2} == {PROC2}, "nothing else of it differs"


def test_without_ept_nothing_is_reported_that_needs_it() -> None:
    found = msrs(CpuConfig(lacking={None: ("ept",)}), 3)
    assert not any(allowed(found[PROC2], bit) for bit in (1, 7, 17))
    assert found[EPT_VPID] & 0xFFFFFFFF == 0
    assert found[EPT_VPID] >> 32, "VPID stays"


def test_apicv_is_gone_from_the_true_controls_too() -> None:
    found = msrs(CpuConfig(lacking={None: ("apicv",)}), 0)
    assert not allowed(found[PIN], 7)
    assert not allowed(found[TRUE_PIN], 7)
    assert not allowed(found[PROC2], 8)


def test_what_all_lack_the_odd_one_lacks_too() -> None:
    found = msrs(CpuConfig(lacking={None: ("apicv",), 1: ("pause_loop_exiting",)}), 1)
    assert not allowed(found[PROC2], 9)
    assert not allowed(found[PROC2], 10)


def test_feat_ctl_of_one_cpu() -> None:
    config = CpuConfig(feat_ctl={1: 1})
    assert [msrs(config, cpu)[FEAT_CTL] for cpu in range(3)] == [5, 1, 5]


def test_keyids_are_reported_where_there_is_a_tdx_module() -> None:
    with_tdx = PlatformConfig(tdx=ModuleConfig(tdx_keyids=64, mktme_keyids=63))
    assert f"msr * {KEYID_PARTITIONING:x} 400000003f" in with_tdx.setup()
    assert not any(line.startswith(f"msr * {KEYID_PARTITIONING:x} ") for line in PlatformConfig().setup())


def test_setup_is_in_the_words_of_the_protocol() -> None:
    lines = PlatformConfig(CpuConfig(feat_ctl={11: 1}, vmxe=(2, 11))).setup()
    assert lines[0] == "msr * 3a 5"
    assert "msr b 3a 1" in lines
    assert lines[-2:] == ["vmxe 2", "vmxe b"]
    plain = ["without_vmx 3", "without_vmx a", "msr 3 3a 1", "msr a 3a 1"]
    assert PlatformConfig().setup(without_vmx=(3, 10))[-4:] == plain


@pytest.mark.parametrize(("name", "family_model"), [("sapphirerapids", 143), ("emeraldrapids", 207)])
def test_models_by_name(name: str, family_model: int) -> None:
    assert MODELS[name].model == family_model
    assert f"model={family_model}" in CpuConfig(model=name).qemu_properties()
    assert MODELS[name].pw_mce and not MODELS["graniterapids"].pw_mce


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown CPU model 'skylake'[\s\S]*sapphirerapids"):
        CpuConfig(model="skylake")
    with pytest.raises(UsageError, match=r"unknown VMX control 'eptx'[\s\S]*vpid"):
        CpuConfig(lacking={0: ("eptx",)})
