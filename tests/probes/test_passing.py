"""Who passes a point, with a made-up kernel in a made-up memory."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest

from harness.errors import HostFault, NotExercised
from harness.probes.layout import GuestLayout
from harness.probes.module_symbols import find_module
from harness.probes.passing import Task, conditions, preempt_count
from harness.probes.points import ArmedPoint

GS = 0xFFFF88801E200000
LAYOUT = GuestLayout(
    current_task=0x351C0,
    preempt_count=0x351C8,
    task_cpu=0x14,
    task_comm=0x40,
    task_pid=0x20,
    task_real_parent=0x28,
    module_name=0x18,
    module_kallsyms=0x60,
    module_list=0x8,
    symtab=0,
    num_symtab=8,
    strtab=0x10,
)
INIT, SHELL, LOAD = (0xFFFF888000001000 + 0x1000 * number for number in range(3))
MODULES, KVM, MSR = 0xFFFFFFFF82D00000, 0xFFFFFFFFC0010000, 0xFFFFFFFFC0020000


@dataclass
class Memory:
    """Bytes by address; what was not written is not mapped."""

    bytes_: dict[int, int] = field(default_factory=dict)

    def write(self, va: int, data: bytes) -> None:
        self.bytes_ |= {va + offset: byte for offset, byte in enumerate(data)}

    def read_virtual(self, va: int, length: int) -> bytes | None:
        try:
            return bytes(self.bytes_[va + offset] for offset in range(length))
        except KeyError:
            return None

    def string(self, va: int) -> str | None:
        end = va
        while self.bytes_.get(end):
            end += 1
        return bytes(self.bytes_[at] for at in range(va, end)).decode() if end in self.bytes_ else None

    def u64(self, va: int) -> int | None:
        raw = self.read_virtual(va, 8)
        return None if raw is None else int(struct.unpack("<Q", raw)[0])

    def task(self, at: int, comm: str, pid: int, parent: int) -> None:
        self.write(at + LAYOUT.task_comm, comm.encode().ljust(16, b"\0"))
        self.write(at + LAYOUT.task_pid, struct.pack("<i", pid))
        self.write(at + LAYOUT.task_real_parent, struct.pack("<Q", parent))


@pytest.fixture
def memory() -> Memory:
    """CPU 0 runs modprobe-103, whose parent is sh-102, whose parent is init."""
    memory = Memory()
    memory.task(INIT, "init", 1, INIT)
    memory.task(SHELL, "sh", 102, INIT)
    memory.task(LOAD, "modprobe", 103, SHELL)
    memory.write(GS + LAYOUT.current_task, struct.pack("<Q", LOAD))
    return memory


def test_the_current_task_is_found_from_the_cpu_s_gs_base(memory: Memory) -> None:
    assert Task.current(GS, memory, LAYOUT) == Task(LOAD, "modprobe", 103)
    with pytest.raises(HostFault, match="cannot be read"):
        Task.current(0, memory, LAYOUT)


def test_the_per_cpu_area_may_lie_below_the_kernel_s_symbols(memory: Memory) -> None:
    """Since 6.15 the symbols are addresses in the image, and the GS base is what leads from there to the area."""
    image = GuestLayout(**{**vars(LAYOUT), "current_task": 0xFFFFFFFF83F4D018})
    assert Task.current(GS + LAYOUT.current_task - 0xFFFFFFFF83F4D018 & (1 << 64) - 1, memory, image).pid == 103


def test_descendants_are_found_by_their_real_parents(memory: Memory) -> None:
    load = Task.current(GS, memory, LAYOUT)
    assert [load.descends_from(pid, memory, LAYOUT) for pid in (103, 102, 1, 104)] == [True, True, True, False]
    memory.task(SHELL, "sh", 102, LOAD)  # two tasks that are each other's parents: memory that is being changed
    assert not load.descends_from(1, memory, LAYOUT)


def test_preempt_count_is_told_without_the_inverted_bit(memory: Memory) -> None:
    memory.write(GS + LAYOUT.preempt_count, struct.pack("<I", 0x80000002))
    assert preempt_count(GS, memory, LAYOUT) == 2


@pytest.mark.parametrize(
    ("expression", "value", "holds"),
    [
        ("$arg1:u32", 3, True),
        ("$arg1:u32", 4, False),
        ("%di:u64", 0x1_0000_0003, True),
        ("$arg2:s32", -5, True),
        ("@system_state:u32", "0x6", True),
        ("+8(%dx):string", "kvm_amd", True),
        ("+8(%dx):string", "kvm_intel", False),
        ("+8(%cx):u64", 0, False),  # not mapped
    ],
)
def test_conditions_look_at_registers_and_memory(
    memory: Memory, expression: str, value: str | int, holds: bool
) -> None:
    memory.write(0xFFFFFFFF82000000, struct.pack("<I", 6))
    memory.write(0x5008, b"kvm_amd\0")
    general = {"rdi": 0x1_0000_0003, "rsi": 0xFFFFFFFB, "rdx": 0x5000, "rcx": 0}
    (condition,) = conditions(
        ArmedPoint("here", "f", when=((expression, value),)),
        lambda name: 0xFFFFFFFF82000000 if name == "system_state" else None,
    )
    assert condition.holds(general, memory) is holds
    assert condition.by_register is not expression.startswith("@")


def test_what_only_the_kernel_can_evaluate_is_not_exercised() -> None:
    with pytest.raises(NotExercised, match="here cannot look at"):
        conditions(ArmedPoint("here", "f", when=(("+0(+8(%di)):u32", 1),)), lambda name: None)


def test_a_loaded_module_is_found_in_the_kernel_s_list(memory: Memory) -> None:
    ring = [MODULES, KVM + LAYOUT.module_list, MSR + LAYOUT.module_list]
    for entry, after in zip(ring, ring[1:] + ring[:1], strict=True):
        memory.write(entry, struct.pack("<Q", after))
    memory.write(KVM + LAYOUT.module_name, b"kvm\0")
    memory.write(MSR + LAYOUT.module_name, b"msr\0")
    assert find_module(memory, LAYOUT, MODULES, "msr") == MSR
    assert find_module(memory, LAYOUT, MODULES, "kvm_amd") is None
    memory.write(MSR + LAYOUT.module_list, struct.pack("<Q", KVM + LAYOUT.module_list))
    with pytest.raises(HostFault, match="list of modules"):
        find_module(memory, LAYOUT, MODULES, "kvm_amd")
