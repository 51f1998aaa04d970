"""The emulated platform as a source of events: calls and returns of functions, seen by the CPU, not by the kernel.

The same probes as those of tracefs (`KernelProbe`), armed before the kernel starts, and seen from
x86_64_start_kernel(), its first C function, up to the very reset. What the plugin cannot fetch is left to tracefs.

Functions of a module have no address before it is loaded. do_init_module() is where a module is complete and nothing
of it has run yet: there the vCPU waits while the module's own symbol table is read out of the guest's memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from harness.deadline import Deadline
from harness.errors import HostFault
from harness.images.modules import module_tree
from harness.kernels.btf import module_void_functions, void_functions
from harness.kernels.model import Kernel
from harness.platform.link import GuestMemory, Notice, Platform, Point, Probe
from harness.probes.addresses import NoFunction, SymbolTable
from harness.probes.fetch import Fetch, compile_fetch
from harness.probes.layout import GuestLayout, required
from harness.probes.module_symbols import MODULE_BEGINS, module_functions, module_name
from harness.probes.tracefs import KernelProbe

# The first C function of a kernel, on its boot CPU only (arch/x86/kernel/head64.c).
_KERNEL_START = "x86_64_start_kernel"
_MODULE_ENDS = "free_module"  # kernel/module/main.c; struct module *mod
_FIRST_ARGUMENT = "rdi"


@dataclass
class _PlacedPoint:
    """A point at a function, which may be in a module."""

    number: int
    symbol: str
    module: str
    specs: list[str]  # of its conditions
    addresses: tuple[int, ...] = ()
    refused: str = ""


@dataclass
class FunctionProbes:
    """Probes on functions, placed on a platform whose machine is not yet started.

    `rest` are the probes that tracefs has to arm. `refused` says why of each that nobody can; functions of modules
    join it when their module is loaded.
    """

    platform: Platform
    symbols: SymbolTable
    layout: GuestLayout
    rest: list[KernelProbe] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    fetches: dict[str, dict[str, Fetch]] = field(default_factory=dict)  # of every probe that is not in `rest`
    void: frozenset[str] = frozenset()  # probes on functions that return nothing, as far as BTF tells
    _of_modules: dict[str, list[KernelProbe]] = field(default_factory=dict)
    _in_modules: dict[int, tuple[str, int]] = field(default_factory=dict)  # probe's number -> module, address
    _points: dict[int, _PlacedPoint] = field(default_factory=dict)
    _loaded: dict[str, SymbolTable] = field(default_factory=dict)  # the functions of the modules that are
    _begun: bool = False  # a kernel has, since the last that was asked about

    @classmethod
    def on(cls, platform: Platform, kernel: Kernel, symbols: SymbolTable, probes: Sequence[KernelProbe]) -> Self:
        """Tells the platform about the kernel, and places `probes`.

        The platform's own events get their task names and their place beside tracefs' events by this too. Raises
        HostFault for a kernel without BTF or symbols.
        """
        made = cls(platform, symbols, GuestLayout.of(kernel, symbols))
        made.tell_kernel()
        for probe in probes:
            made.add(probe)
        made.void = frozenset(probe.name for probe in probes if probe.void)
        return made

    @property
    def armed(self) -> tuple[str, ...]:
        """The names of the functions whose calls and returns are the platform's events."""
        return tuple(name for name in self.fetches if name not in self.refused)

    def require_begun(self) -> None:
        """Raises HostFault unless a kernel was seen to begin since the last call: for each that is up and running.

        With the symbols of another kernel nothing would be seen, which must not pass for nothing that happened.
        """
        if not self._begun:
            raise HostFault(
                "the emulated platform did not see the kernel begin",
                expected=f"{_KERNEL_START}() executed at {required(self.symbols, _KERNEL_START):#x}",
                hint="its symbols are those of another kernel; the kernel needs nokaslr",
            )
        self._begun = False

    def add(self, probe: KernelProbe) -> None:
        """Adds a probe, also while the guest runs; of a module, before the module is loaded."""
        compiled = {name: compile_fetch(text, self.symbols.variable) for name, text in probe.fetch}
        fetches = {name: fetch for name, fetch in compiled.items() if fetch is not None}
        if probe.tracepoint or len(fetches) < len(compiled):
            self.rest.append(probe)
            return
        self.fetches[probe.name] = fetches
        if probe.module:
            self._of_modules.setdefault(probe.module, []).append(probe)
        else:
            self._place(probe, self.symbols)

    def tell_kernel(self) -> None:
        """Tells the platform where the kernel keeps what an event says, and to stop where a module comes or goes."""
        self.platform.symbol("trace_counter", required(self.symbols, "trace_counter"))
        self.platform.symbol("kernel_start", required(self.symbols, _KERNEL_START))
        self.platform.symbol("current_task", self.layout.current_task)
        self.platform.symbol("preempt_count", self.layout.preempt_count)
        for name in ("task_comm", "task_pid", "task_real_parent"):
            self.platform.offset(name, getattr(self.layout, name))
        for function, hook in (
            (_KERNEL_START, self._kernel_begins),
            (MODULE_BEGINS, self._module_begins),
            (_MODULE_ENDS, self._module_ends),
        ):
            self.platform.add_hook(required(self.symbols, function), _FIRST_ARGUMENT, hook)

    def _place(self, probe: KernelProbe, symbols: SymbolTable) -> None:
        """Adds the probe at its function and at every copy that the compiler made of it."""
        specs = {name: fetch.spec for name, fetch in self.fetches[probe.name].items()}
        try:
            addresses = _addresses(symbols, probe.symbol, specs.values())
        except NoFunction as error:
            self.refused[probe.name] = str(error)
            return
        for address in addresses:
            number = self.platform.add_probe(Probe(probe.name, address, args=tuple(specs.items())))
            if probe.module:
                self._in_modules[number] = (probe.module, address)

    # Modules that are loaded when a machine goes on from a snapshot

    @property
    def modules(self) -> dict[str, str]:
        """The functions of the modules that are loaded, as symbol tables' texts."""
        return {module: symbols.text for module, symbols in self._loaded.items()}

    def load_modules(self, modules: Mapping[str, str]) -> None:
        """Places the probes of modules that are loaded already; before points are added."""
        for name, text in modules.items():
            self._loaded[name] = SymbolTable.parse(text)
            for probe in self._of_modules.get(name, ()):
                self._place(probe, self._loaded[name])

    # Points

    def add_point(self, point: Point, symbol: str, module: str, notice: Notice, deadline: Deadline) -> int:
        """Adds a point at the function `symbol`, of a module that may come later or of the kernel (module "").

        Returns the platform's number for it. Raises NoFunction for a function that there is not, or whose arguments
        the compiler changed; for one of a module that is not loaded, `point_refused` says it later.
        """
        placed = _PlacedPoint(0, symbol, module, [spec for spec, _ in point.conditions])
        symbols = self._loaded.get(module) if module else self.symbols
        placed.addresses = _addresses(symbols, symbol, placed.specs) if symbols else ()
        placed.number = self.platform.add_point(point, notice, deadline)
        self._points[placed.number] = placed
        self.platform.place_point(placed.number, placed.addresses, deadline)
        return placed.number

    def point_refused(self, number: int) -> str:
        """Why the function of a point in a module, which was loaded since, cannot be held at; "" where it can."""
        return self._points[number].refused

    def remove_point(self, number: int, deadline: Deadline) -> None:
        """Disarms the point and lets go whoever is held at it."""
        self._points.pop(number, None)
        self.platform.remove_point(number, deadline)

    def _move_points(self, module: str, symbols: SymbolTable | None) -> None:
        """Places the points of a module that came, or went (None)."""
        for point in [one for one in list(self._points.values()) if one.module == module]:
            try:
                point.addresses = _addresses(symbols, point.symbol, point.specs) if symbols else ()
            except NoFunction as error:
                point.refused, point.addresses = str(error), ()
            self.platform.place_point(point.number, point.addresses)

    # While a vCPU waits

    def _kernel_begins(self, memory: GuestMemory, argument: int) -> None:
        """Nothing of the kernel before is left, whether it was reset or replaced by kexec."""
        self._begun = True
        self._forget(list(self._in_modules))
        for module in list(self._loaded):
            self._unload(module)

    def _module_begins(self, memory: GuestMemory, module: int) -> None:
        name = module_name(memory, self.layout, module)
        self._forget(number for number, (owner, _) in self._in_modules.items() if owner == name)
        functions = list(module_functions(memory, self.layout, module, name))

        def is_new(address: int) -> bool:
            return any(function.covers(address) for function in functions)

        # Where the init code of another module was: it is freed when it has run.
        self._forget(number for number, (_, address) in self._in_modules.items() if is_new(address))
        for point in list(self._points.values()):  # points are added and removed by another thread
            if point.module and any(map(is_new, point.addresses)):
                point.addresses = ()
                self.platform.place_point(point.number, ())
        symbols = SymbolTable((function.name, function.address, True) for function in functions)
        self._loaded[name] = symbols
        for probe in self._of_modules.get(name, ()):
            self._place(probe, symbols)
        self._move_points(name, symbols)

    def _module_ends(self, memory: GuestMemory, module: int) -> None:
        name = memory.string(module + self.layout.module_name)
        self._forget(number for number, (owner, _) in self._in_modules.items() if owner == name)
        if name:
            self._unload(name)

    def _unload(self, module: str) -> None:
        self._loaded.pop(module, None)
        self._move_points(module, None)

    def _forget(self, numbers: Iterator[int] | list[int]) -> None:
        for number in list(numbers):
            self.platform.remove_probe(number)
            del self._in_modules[number]


def _addresses(symbols: SymbolTable, function: str, specs: Iterable[str]) -> tuple[int, ...]:
    """Where calls of a function arrive, whose arguments are to be read by `specs`. Raises NoFunction."""
    places = symbols.function(function)
    by_register = any(not spec.startswith("m:") for spec in specs)
    if by_register and not all(place.exact for place in places):
        raise NoFunction(f"the compiler changed what {function} takes; its arguments cannot be fetched")
    return tuple(place.address for place in places)


def mark_void(kernel: Kernel, probes: Sequence[KernelProbe]) -> list[KernelProbe]:
    """The probes, marked where BTF says that the function returns nothing; a kernel without BTF does not say."""
    try:
        void = _void(kernel, probes)
    except HostFault:
        return list(probes)
    return [replace(probe, void=(probe.module, probe.symbol) in void) for probe in probes]


def _void(kernel: Kernel, probes: Sequence[KernelProbe]) -> set[tuple[str, str]]:
    """The (module, function) that return nothing, as far as BTF tells; the module is "" for the kernel proper."""
    functions: dict[str, set[str]] = {}
    for probe in probes:
        functions.setdefault(probe.module, set()).add(probe.symbol)
    tree = module_tree(kernel)
    found: set[tuple[str, str]] = set()
    for module, names in functions.items():
        if not module:
            found |= {("", name) for name in void_functions(kernel, names)}
        elif tree.has(module) and not tree.is_builtin(module):
            file = tree.resolve([module])[-1].source
            found |= {(module, name) for name in module_void_functions(kernel, file, names)}
    return found
