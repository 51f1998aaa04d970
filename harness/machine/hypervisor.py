"""Which hypervisor runs this host, when it is itself a guest: what the CPUs tell, and no program has to be asked."""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct

# The leaf that a CPU with the flag `hypervisor` answers with its hypervisor's name, in EBX, ECX and EDX.
_LEAF = 0x4000_0000
_ANY = "a hypervisor that gives no name"

TCG = "QEMU TCG"
_NAMES = {
    "KVMKVMKVM": "KVM",
    "TCGTCGTCGTCG": TCG,  # the name stands in target/i386/cpu.c of QEMU only: Linux and lscpu do not know it
    "Microsoft Hv": "Hyper-V",
    "VMwareVMware": "VMware",
    "XenVMMXenVMM": "Xen",
    "VBoxVBoxVBox": "VirtualBox",
    "bhyve bhyve": "bhyve",
}

# void cpuid(uint32_t registers[4], uint32_t leaf), by the System V ABI: registers in RDI, the leaf in ESI.
_CPUID = bytes.fromhex(
    "53"  # push %rbx
    "89f0"  # mov %esi,%eax
    "31c9"  # xor %ecx,%ecx
    "0fa2"  # cpuid
    "8907895f04894f0889570c"  # mov %eax,(%rdi); %ebx,4(%rdi); %ecx,8(%rdi); %edx,12(%rdi)
    "5b"  # pop %rbx
    "c3"  # ret
)


def hypervisor(flags: frozenset[str]) -> str:
    """The hypervisor that runs this host, whose CPUs have `flags`: KVM, QEMU TCG …; "" on bare metal."""
    if "hypervisor" not in flags:
        return ""
    try:
        registers = _cpuid(_LEAF)
    except OSError:  # a policy that forbids new code in memory: SELinux, MemoryDenyWriteExecute= of systemd
        return _ANY
    return name_of(registers)


def name_of(registers: tuple[int, int, int, int]) -> str:
    """The hypervisor whose CPUID leaf 0x40000000 is in `registers` (EAX to EDX)."""
    signature = struct.pack("<3I", *registers[1:]).decode("ascii", "replace").strip("\0 ")
    return _NAMES.get(signature, signature or _ANY)


def _cpuid(leaf: int) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX and EDX of a leaf without subleaves. Raises OSError where this program may not make code."""
    if platform.machine() != "x86_64":
        raise OSError("not an x86 host")
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(_CPUID)
        place = ctypes.c_char.from_buffer(page)
        registers = (ctypes.c_uint32 * 4)()
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32)(ctypes.addressof(place))(registers, leaf)
        del place  # a page that is looked at cannot be closed
    eax, ebx, ecx, edx = registers
    return eax, ebx, ecx, edx
