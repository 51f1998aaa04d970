"""A host for the module: guest memory, and the bring-up as arch/x86/virt/vmx/tdx/tdx.c of Linux 7.3 does it."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.platform.tdx import Done, Layout, ModuleConfig, Registers, TdxModule, pc_cmrs
from harness.platform.tdx.layout import GIB, MIB, PAGE
from harness.platform.tdx.leaves import LEAF_NUMBERS
from harness.platform.tdx.tdmr import TdmrInfo

Range = tuple[int, int]  # start, end

# The fields in the order of get_tdx_sys_info(), tdx_global_metadata.c.
LINUX_FIELDS = (
    *(0x0800000100000003, 0x0800000100000004, 0x0800000100000005),
    0x0A00000300000008,
    *(0x9100000100000008, 0x9100000100000009, 0x9100000100000010, 0x9100000100000011, 0x9100000100000012),
    *(0x9800000100000000, 0x9800000100000100, 0x9800000100000200),
    *(0x1900000300000000, 0x1900000300000001, 0x1900000300000002, 0x1900000300000003),
    *(0x9900000100000004, 0x9900000100000008),
)
ARRAY = 0x100_0000  # where config_tdx_module() has its array of addresses; any aligned memory will do
INFOS = 0x100_1000  # … and alloc_tdmr_list() the TDMR_INFOs
PAMTS = 0x200_0000  # … and alloc_contig_pages() the PAMTs


@dataclass
class Ram:
    """Guest memory from 0 to `size` that nobody has written to yet, and beyond it nothing."""

    size: int
    pages: dict[int, bytearray] = field(default_factory=dict)

    def read(self, pa: int, length: int) -> bytes | None:
        if pa + length > self.size:
            return None
        return b"".join(self._byte(address) for address in range(pa, pa + length))

    def write(self, pa: int, data: bytes) -> bool:
        if pa + len(data) > self.size:
            return False
        for address, value in enumerate(data, pa):
            self.pages.setdefault(address // PAGE, bytearray(PAGE))[address % PAGE] = value
        return True

    def _byte(self, address: int) -> bytes:
        page = self.pages.get(address // PAGE, b"")
        return bytes(page[address % PAGE : address % PAGE + 1]) or b"\0"


@dataclass
class Host:
    """A machine with the module; `memory` in bytes, `packages` maps processors to packages."""

    module: TdxModule
    ram: Ram
    memory: int
    infos: list[TdmrInfo] = field(default_factory=list)

    @classmethod
    def of(
        cls, config: ModuleConfig | None = None, *, packages: dict[int, int] | None = None, memory: int = 768 * MIB
    ) -> Host:
        layout = Layout(packages or {0: 0, 1: 0}, pc_cmrs(memory))
        return cls(TdxModule(config or ModuleConfig(), layout), Ram(2 * GIB), memory)

    def call(self, leaf: str, lp: int = 0, **operands: int) -> Registers:
        """The registers after a SEAMCALL that reached the module."""
        completion = self.module.seamcall(lp, Registers(rax=LEAF_NUMBERS[leaf], **operands), self.ram)
        assert isinstance(completion, Done)
        return completion.registers

    def status(self, leaf: str, lp: int = 0, **operands: int) -> int:
        return self.call(leaf, lp, **operands).rax

    def succeed(self, leaf: str, lp: int = 0, **operands: int) -> Registers:
        registers = self.call(leaf, lp, **operands)
        assert registers.rax == 0, f"{leaf}: {registers.rax:#x}"
        return registers

    @property
    def state(self) -> str:
        state = self.module.summary["state"]
        assert isinstance(state, str)
        return state

    @property
    def lps(self) -> list[int]:
        return sorted(self.module.layout.packages)

    # --- the kernel ---------------------------------------------------------------------------------------------

    def bring_up(self) -> None:
        """tdx_enable(): everything, and every call succeeds."""
        self.init()
        self.read_metadata()
        self.config()
        self.configure_keys()
        self.init_tdmrs()

    def init(self) -> None:
        """tdx_online_cpu() on every CPU."""
        self.succeed("TDH.SYS.INIT")
        for lp in self.lps:
            self.succeed("TDH.SYS.LP.INIT", lp)

    def read_metadata(self) -> dict[int, int]:
        """get_tdx_sys_info()"""
        return {number: self.succeed("TDH.SYS.RD", rdx=number).r8 for number in LINUX_FIELDS}

    def config(self) -> None:
        """construct_tdmrs() and config_tdx_module()"""
        self.infos = construct_tdmrs(memblock(self.memory))
        self.succeed("TDH.SYS.CONFIG", **self.place(self.infos))

    def place(self, infos: list[TdmrInfo]) -> dict[str, int]:
        """Writes TDMR_INFOs and the array of their addresses; the operands of TDH.SYS.CONFIG."""
        for number, info in enumerate(infos):
            self.ram.write(INFOS + 512 * number, info.pack())
            self.ram.write(ARRAY + 8 * number, (INFOS + 512 * number).to_bytes(8, "little"))
        return {"rcx": ARRAY, "rdx": len(infos), "r8": self.module.config.mktme_keyids + 1}

    def configure_keys(self) -> None:
        """config_global_keyid(): on the first CPU of each package."""
        packages = self.module.layout.packages
        for package in set(packages.values()):
            self.succeed("TDH.SYS.KEY.CONFIG", min(lp for lp in packages if packages[lp] == package))

    def init_tdmrs(self) -> int:
        """init_tdmrs(); the number of SEAMCALLs it took."""
        calls = 0
        for info in self.infos:
            following = 0
            while following < info.end:
                following = self.succeed("TDH.SYS.TDMR.INIT", rcx=info.base).rdx
                calls += 1
        return calls


def memblock(memory: int) -> list[Range]:
    """RAM as SeaBIOS' E820 gives it to Linux: its last 128 KiB below 4 GiB hold ACPI tables."""
    regions = [(base, base + size) for base, size in pc_cmrs(memory)]
    low = regions[0]
    return [(low[0], low[1] - 128 * 1024), *regions[1:]]


def construct_tdmrs(memory: list[Range]) -> list[TdmrInfo]:
    """construct_tdmrs() of Linux, with PAMTs one after another from PAMTS on."""
    areas = fill_out_tdmrs(memory)
    pamts, free = [], PAMTS
    for start, end in areas:
        sizes = [-(-(end - start) // page * 16 // PAGE) * PAGE for page in (PAGE, 2 * MIB, GIB)]
        pamts.append([(free + sum(sizes[:level]), size) for level, size in enumerate(sizes)])
        free += sum(sizes)
    chunks = [(pamt[0][0], pamt[2][0] + pamt[2][1]) for pamt in pamts]
    return [
        TdmrInfo(start, end - start, (pamt[0], pamt[1], pamt[2]), reserved_areas((start, end), memory, chunks))
        for (start, end), pamt in zip(areas, pamts, strict=True)
    ]


def fill_out_tdmrs(memory: list[Range]) -> list[Range]:
    """One TDMR per region, rounded out to GiB, without what the TDMR before has already."""
    tdmrs: list[Range] = []
    for start, end in memory:
        first, last = start // GIB * GIB, -(-end // GIB) * GIB
        covered = tdmrs[-1][1] if tdmrs else 0
        if last > covered:
            tdmrs.append((max(first, covered), last))
    return tdmrs


def reserved_areas(tdmr: Range, memory: list[Range], pamts: list[Range]) -> tuple[Range, ...]:
    """Holes in memory and PAMTs, as sorted (offset, size), filled up to sixteen."""
    holes, position = [], tdmr[0]
    for start, end in memory:
        if position < min(start, tdmr[1]):
            holes.append((position, min(start, tdmr[1])))
        position = max(position, end)
    if position < tdmr[1]:
        holes.append((position, tdmr[1]))
    inside = [(max(start, tdmr[0]), min(end, tdmr[1])) for start, end in pamts if start < tdmr[1] and end > tdmr[0]]
    areas = tuple((start - tdmr[0], end - start) for start, end in sorted(holes + inside))
    return areas + ((0, 0),) * (16 - len(areas))
