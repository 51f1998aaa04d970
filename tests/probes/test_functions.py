"""Probes on functions, through the plugin: against a peer with a made-up kernel, and on real guests."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HostFault
from harness.machine import toolchain
from harness.machine.argv import MachineSpec
from harness.platform.link import EVENTS, Platform
from harness.probes.addresses import SymbolTable
from harness.probes.functions import FunctionProbes, mark_void
from harness.probes.kallsyms import symbol_table
from harness.probes.layout import GuestLayout
from harness.probes.platform_log import parse_platform
from harness.probes.tracefs import KernelProbe
from tests import guests
from tests.platform.peer import Peer, started

LAYOUT = GuestLayout(
    current_task=0x35000,
    preempt_count=0x35008,
    task_cpu=0x14,
    task_comm=0x100,
    task_pid=0x80,
    task_real_parent=0x88,
    module_name=0x18,
    module_kallsyms=0x40,
    module_list=0x8,
    symtab=0,
    num_symtab=8,
    strtab=0x10,
)
_SYMBOLS = """\
ffffffff81000100 T x86_64_start_kernel
ffffffff81000200 t do_init_module
ffffffff81000300 t free_module
ffffffff81000400 T register_syscore
ffffffff81000500 t only_copy.isra.0
ffffffff81000600 T with_copy
ffffffff81000700 t with_copy.constprop.0
ffffffff82000000 D system_state
ffffffff82000100 b trace_counter
"""
SYMBOLS = SymbolTable.parse(_SYMBOLS)
START, BEGIN, END = "hook 1", "hook 2", "hook 3"  # the hooks, in the order in which they are placed


def probe(name: str, module: str = "", /, **fetch: str) -> KernelProbe:
    return KernelProbe(name, name, module, fetch=tuple(fetch.items()))


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with Platform(Path("platform.so"), tmp_path, (), None) as made:
        yield made


def placed(platform: Platform, *probes: KernelProbe) -> tuple[FunctionProbes, Peer]:
    """The probes on a platform that runs; what `on` does without the BTF of a real kernel."""
    functions = FunctionProbes(platform, SYMBOLS, LAYOUT)
    functions.tell_kernel()
    for one in probes:
        functions.add(one)
    return functions, started(platform)


def load(peer: Peer, at: int, name: str, functions: dict[str, tuple[int, int]]) -> None:
    """Puts a struct module with these functions (name -> address, size) into memory, and runs do_init_module()."""
    strings, rows = b"\0", struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)
    for function, (address, size) in functions.items():
        rows += struct.pack("<IBBHQQ", len(strings), 2, 0, 1, address, size)
        strings += function.encode() + b"\0"
    module = bytearray(0x100)
    module[0x18 : 0x18 + len(name)] = name.encode()
    struct.pack_into("<Q", module, 0x40, at + 0x100)
    kallsyms = struct.pack("<QQQ", at + 0x1000, len(rows) // 24, at + 0x2000).ljust(0x40, b"\0")
    peer.memory |= {
        at: bytes(module),
        at + 0x100: kallsyms,
        at + 0x1000: rows,
        at + 0x2000: strings.ljust(0x200, b"\0"),
    }
    assert peer.ask(f"{BEGIN} 0 {at:x}") == "done"


def told(peer: Peer, verb: str) -> list[str]:
    return [line for line in peer.commands if line.split()[0] == verb]


KVM = 0xFFFF888000000000
OTHER = 0xFFFF888000010000


def test_functions_of_the_kernel_are_placed_before_it_starts(platform: Platform) -> None:
    functions, peer = placed(platform, probe("register_syscore"), probe("with_copy"))
    assert [line.split(" ", 2)[2] for line in told(peer, "probe")] == [
        "ffffffff81000400 b register_syscore",
        "ffffffff81000600 b with_copy",
        "ffffffff81000700 b with_copy",
    ]
    assert peer.commands.index(told(peer, "probe")[-1]) < peer.commands.index("go")
    assert told(peer, "symbol") == [
        "symbol trace_counter ffffffff82000100",
        "symbol kernel_start ffffffff81000100",
        "symbol current_task 35000",
        "symbol preempt_count 35008",
    ]
    assert functions.armed == ("register_syscore", "with_copy") and not functions.refused


def test_what_cannot_be_traced_is_refused_with_the_reason(platform: Platform) -> None:
    functions, peer = placed(
        platform, probe("nothing"), probe("only_copy", a="%di:u32"), probe("with_copy", a="$arg1")
    )
    assert functions.refused["nothing"] == "there is no function nothing"
    assert "arguments cannot be fetched" in functions.refused["only_copy"]
    assert "arguments cannot be fetched" in functions.refused["with_copy"]
    assert not functions.armed and told(peer, "probe") == []


def test_a_variable_can_be_fetched_at_a_copy_too(platform: Platform) -> None:
    functions, peer = placed(platform, probe("only_copy", state="@system_state:u32"))
    assert told(peer, "probe")[0].endswith("b only_copy state=m:ffffffff82000000:4")
    assert not functions.refused


def test_tracepoints_and_what_the_plugin_cannot_fetch_are_left_to_tracefs(platform: Platform) -> None:
    tracepoint = KernelProbe("suspend_resume", tracepoint="power:suspend_resume")
    nested = probe("register_syscore", name="+0(+8(%di)):string")
    functions, peer = placed(platform, tracepoint, nested)
    assert functions.rest == [tracepoint, nested]
    assert not functions.armed and told(peer, "probe") == []


def test_functions_of_a_module_are_placed_before_its_init_runs(platform: Platform) -> None:
    functions, peer = placed(platform, probe("kvm_online_cpu", "kvm"), probe("kvm_init", "kvm", a="%di:u32"))
    load(peer, OTHER, "msr", {"msr_init": (0xFFFFFFFFC0100000, 0x20)})
    assert told(peer, "probe") == []
    table = {"kvm_init": (0xFFFFFFFFC0000000, 0x40), "kvm_online_cpu.isra.0": (0xFFFFFFFFC0000100, 0x40)}
    load(peer, KVM, "kvm", table)
    assert [line.split(" ", 2)[2] for line in told(peer, "probe")] == [
        "ffffffffc0000100 b kvm_online_cpu",
        "ffffffffc0000000 b kvm_init a=r:rdi:4",
    ]
    assert not functions.refused


def test_a_function_that_the_module_does_not_have_is_no_longer_armed(platform: Platform) -> None:
    functions, peer = placed(platform, probe("kvm_online_cpu", "kvm"))
    assert "kvm_online_cpu" in functions.armed
    load(peer, KVM, "kvm", {"kvm_init": (0xFFFFFFFFC0000000, 0x40)})
    assert functions.refused == {"kvm_online_cpu": "there is no function kvm_online_cpu"}
    assert not functions.armed


def test_probes_leave_with_their_module_and_come_back_with_it(platform: Platform) -> None:
    _, peer = placed(platform, probe("kvm_init", "kvm"))
    load(peer, KVM, "kvm", {"kvm_init": (0xFFFFFFFFC0000000, 0x40)})
    peer.ask(f"{END} 0 {KVM:x}")
    assert len(told(peer, "unprobe")) == 1
    load(peer, KVM, "kvm", {"kvm_init": (0xFFFFFFFFC0200000, 0x40)})
    assert told(peer, "probe")[-1].split()[2] == "ffffffffc0200000"
    assert len(told(peer, "unprobe")) == 1


def test_code_in_the_place_of_freed_init_code_is_not_taken_for_it(platform: Platform) -> None:
    _, peer = placed(platform, probe("kvm_init", "kvm"), probe("kvm_exit", "kvm"))
    load(peer, KVM, "kvm", {"kvm_init": (0xFFFFFFFFC0009000, 0x40), "kvm_exit": (0xFFFFFFFFC0001000, 0x40)})
    load(peer, OTHER, "msr", {"msr_init": (0xFFFFFFFFC0008F00, 0x200)})
    (removed,) = told(peer, "unprobe")
    added = next(line for line in told(peer, "probe") if line.endswith("kvm_init"))
    assert removed.split()[1] == added.split()[1]


def test_another_kernel_has_no_modules(platform: Platform) -> None:
    _, peer = placed(platform, probe("kvm_init", "kvm"))
    load(peer, KVM, "kvm", {"kvm_init": (0xFFFFFFFFC0000000, 0x40)})
    peer.ask(f"{START} 0 0")
    assert len(told(peer, "unprobe")) == 1


def test_a_kernel_that_was_not_seen_to_begin_is_not_the_one_of_the_symbols(platform: Platform) -> None:
    functions, peer = placed(platform)
    with pytest.raises(HostFault, match="did not see the kernel begin"):
        functions.require_begun()
    peer.ask(f"{START} 0 0")
    functions.require_begun()
    with pytest.raises(HostFault, match="did not see the kernel begin"):
        functions.require_begun()  # a second boot is another kernel


def test_a_probe_can_be_added_while_the_guest_runs(platform: Platform) -> None:
    functions, peer = placed(platform)
    functions.add(probe("register_syscore"))
    assert peer.commands[-1].endswith("b register_syscore")


def test_a_module_whose_symbols_cannot_be_read_ends_the_run(platform: Platform) -> None:
    _, peer = placed(platform, probe("kvm_init", "kvm"))
    peer.memory[KVM] = bytes(0x18) + b"kvm".ljust(0x28, b"\0") + struct.pack("<Q", 0xDEAD0000).ljust(0xC0, b"\0")
    peer.say(f"{BEGIN} 0 {KVM:x}")
    peer.join(5)
    with pytest.raises(HostFault, match="symbols of module kvm cannot be read"):
        platform.check()


def test_a_module_without_a_name_that_can_be_read_ends_the_run(platform: Platform) -> None:
    _, peer = placed(platform, probe("kvm_init", "kvm"))
    peer.say(f"{BEGIN} 0 dead0000")
    peer.join(5)
    with pytest.raises(HostFault, match="the name of the module at 0xdead0000 cannot be read"):
        platform.check()


# --- a real kernel ------------------------------------------------------------------------------------------------


@pytest.mark.network
def test_what_returns_nothing_is_known_of_the_kernel_and_of_its_modules() -> None:
    probes = [
        probe("register_syscore_ops"),
        probe("misc_register"),
        probe("kvm_exit", "kvm"),
        probe("kvm_init", "kvm"),
    ]
    void = {marked.name for marked in mark_void(guests.kernel(), probes) if marked.void}
    assert void == {"register_syscore_ops", "kvm_exit"}


@pytest.mark.boot
def test_functions_of_debian_s_kernel_and_its_modules(tmp_path: Path) -> None:
    """From the first instruction on; in a module that comes, goes and comes back; and a probe that comes late."""
    guest = guests.make(tmp_path, MachineSpec(), "tcg-vmx")
    machine = guest.machine
    assert machine.platform is not None
    qemu = toolchain.find(guests.deadline(600))
    symbols = symbol_table(guests.kernel(), qemu)
    wanted = [probe("misc_register"), KernelProbe("enable", "kvm_online_cpu", "kvm", fetch=(("cpu", "%di:u32"),))]
    functions = FunctionProbes.on(machine.platform, guests.kernel(), symbols, wanted)

    def events(name: str) -> list[tuple[int, str, str, dict[str, str | int]]]:
        trace = parse_platform((tmp_path / EVENTS).read_text().splitlines(), functions.fetches)
        assert not trace.lost
        return [(one.cpu, one.phase, one.task, dict(one.args)) for one in trace.events if one.name == name]

    with machine:
        guest.boot()
        at_boot = events("misc_register")
        assert at_boot[0][1:] == ("call", "swapper/0", {}) and len(at_boot) % 2 == 0
        enabled = [
            entry
            for cpu in range(4)
            for entry in ((cpu, "call", f"cpuhp/{cpu}", {"cpu": str(cpu)}), (cpu, "return", f"cpuhp/{cpu}", {}))
        ]
        for round_ in (1, 2):
            assert guest.shell.run("modprobe kvm_intel && rmmod kvm_intel kvm", guests.deadline()).status == 0
            assert events("enable") == enabled * round_
        assert not functions.refused
        functions.add(probe("do_syslog"))
        assert guest.shell.run("dmesg >/dev/null", guests.deadline()).status == 0
        assert {(phase, task) for _, phase, task, _ in events("do_syslog")} == {
            ("call", "dmesg"),
            ("return", "dmesg"),
        }
