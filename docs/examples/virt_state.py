"""What a guest's memory says about virtualization, CPU by CPU: from a dump, with drgn.

    harness run scenarios/demo.yaml --kernel debian:6.1 --pause-on violated
    harness attach demo --dump memory.elf           # in another terminal; then: harness stop demo
    python docs/examples/virt_state.py runs/…-demo-debian-6.1-tcg-svm memory.elf

No debug package is needed: types come from the kernel's BTF. docs/inspect.md goes through it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from drgn import Program
from drgn.helpers.linux.cpumask import for_each_online_cpu, for_each_present_cpu
from drgn.helpers.linux.percpu import per_cpu

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.machine import toolchain
from harness.postmortem.dump import Dump, kernel_of_run, module_symbols, open_dump
from harness.probes.kallsyms import symbol_table

CR4_VMXE = 1 << 13

# What KVM thinks of a CPU: a per-CPU flag, in 6.1 a bit in one mask for all.
FLAG, MASK = "virtualization_enabled", "cpus_hardware_enabled"
# Since 7.x the kernel itself counts who uses virtualization on a CPU: KVM and TDX.
USERS = "virtualization_nr_users"

COLUMNS = "{:>3}  {:6}  {:8}  {:5}  {:15}  {:8}  {}"


def main(run: Path, path: Path) -> None:
    kernel = kernel_of_run(run)
    symbols = symbol_table(kernel, toolchain.find(Deadline.after(300.0, "QEMU")))
    prog = open_dump(path, kernel, symbols)
    modules = module_symbols(prog)
    registers = Dump.read(path).cr4
    seen = last_sample(run)
    online = set(for_each_online_cpu(prog))
    print(f"Linux {kernel.release}; loaded: {', '.join(sorted(name for name in modules if name.startswith('kvm')))}")
    print(COLUMNS.format("CPU", "online", "KVM says", "users", "CR4.VMXE shadow", "CR4.VMXE", "last sample"))
    for cpu in for_each_present_cpu(prog):
        shadow = per_cpu(prog["cpu_tlbstate"], cpu).cr4 & CR4_VMXE
        print(
            COLUMNS.format(
                cpu,
                yes(cpu in online),
                yes(kvm_says(prog, modules.get("kvm", {}), cpu)),
                int(per_cpu(prog[USERS], cpu)) if USERS in prog else "-",
                yes(bool(shadow)),
                yes(bool(registers[cpu] & CR4_VMXE)),
                yes(seen.get(str(cpu), False)),
            )
        )


def kvm_says(prog: Program, kvm: Mapping[str, int], cpu: int) -> bool:
    """Whether KVM has enabled virtualization on a CPU; `kvm` are the symbols of its module."""
    if FLAG in kvm:
        return bool(prog.read_u8((kvm[FLAG] + int(prog["__per_cpu_offset"][cpu])) % (1 << 64)))
    if MASK in kvm:
        mask = prog.read_u64(kvm[MASK])  # a cpumask_var_t of a kernel with CONFIG_CPUMASK_OFFSTACK: a pointer
        return bool(prog.read_u64(mask) >> cpu & 1)
    return False


def last_sample(run: Path) -> Mapping[str, bool]:
    """What QEMU's registers said when the run took its last sample: EFER.SVME or CR4.VMXE, by CPU."""
    samples = run / "samples.jsonl"
    lines = samples.read_text().splitlines() if samples.exists() else []
    virt: Mapping[str, bool] = json.loads(lines[-1])["virt"] if lines else {}
    return virt


def yes(value: bool) -> str:
    return "yes" if value else "no"


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except HarnessError as error:
        sys.exit(f"virt_state: {error}")
