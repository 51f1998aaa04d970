"""What a scenario needs of a kernel: options of its configuration, and the functions that are to be traced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.errors import NotExercised, UsageError
from harness.images.modules import module_tree
from harness.kernels.model import Kernel
from harness.machine.engine import Engine
from harness.probes.points import ArmedPoint
from harness.probes.symbols import modules_of
from harness.probes.tracefs import KernelProbe
from harness.scenario.functions import real_name
from harness.scenario.model import Probe, Scenario
from harness.scenario.steps import KVM_VENDOR, Kexec, Load, Offline, Online, Plug, Step, Suspend, Wrmsr
from harness.scenario.yaml_file import read_yaml

_VENDOR_MODULES = {"kvm_amd", "kvm_intel"}
_KVM_MODULES = ("kvm", *sorted(_VENDOR_MODULES))

_CONFIG = {
    "CONFIG_KPROBE_EVENTS": "the tracer's probes",
    "CONFIG_VIRTIO_PCI": "the devices of the guest",
    "CONFIG_VIRTIO_CONSOLE": "the tracer's stream",
    "CONFIG_VIRTIO_NET": "SSH",
    "CONFIG_SERIAL_8250_CONSOLE": "the console",
    "CONFIG_BLK_DEV_INITRD": "the guest image",
    "CONFIG_DEVTMPFS": "/dev/kvm",
}

_STEP_CONFIG: dict[type[Step], dict[str, str]] = {
    Offline: {"CONFIG_HOTPLUG_CPU": "offline"},
    Online: {"CONFIG_HOTPLUG_CPU": "online"},
    Plug: {"CONFIG_ACPI_HOTPLUG_CPU": "plug"},
    Suspend: {"CONFIG_SUSPEND": "suspend"},
    Kexec: {"CONFIG_KEXEC_FILE": "kexec"},
    Wrmsr: {"CONFIG_X86_MSR": "wrmsr"},
}


def needed_config(scenario: Scenario, kernel: Kernel) -> dict[str, str]:
    """The options that the harness needs for this scenario, each with what it is for."""
    needed = dict(_CONFIG)
    for step in [*scenario.steps_on(str(kernel.version)), *scenario.actors.values()]:
        needed |= _STEP_CONFIG.get(type(step), {})
    return needed


def named_modules(scenario: Scenario, kernel: Kernel, engine: Engine) -> set[str]:
    """The modules that the scenario's steps and actors load, by the names that they have with this CPU vendor."""
    doers = [*scenario.steps_on(str(kernel.version)), *scenario.actors.values()]
    named = {step.module for step in doers if isinstance(step, Load)}
    return {engine.extension.module if name == KVM_VENDOR else name for name in named}


def loaded_modules(scenario: Scenario, kernel: Kernel, engine: Engine) -> list[str]:
    """The modules that the scenario's steps and actors load, for the guest image to carry.

    Raises NotExercised for one that this kernel does not have: its load would fail, which proves nothing.
    """
    names = named_modules(scenario, kernel, engine)
    tree = module_tree(kernel)
    if absent := sorted(name for name in names if not tree.has(name)):
        raise NotExercised(f"kernel {kernel.spec} has no module {', '.join(absent)}, which the scenario loads")
    return sorted(name for name in names if not tree.is_builtin(name))


def kernel_probes(scenario: Scenario, kernel: Kernel, engine: Engine) -> list[KernelProbe]:
    """The scenario's probes with the names that this kernel has for them.

    Raises ScenarioError for a function that the table of names says this kernel does not have, and for one that
    several modules have, of which one alone would be traced. Where the kernel itself has one of that name too
    (kvm_suspend, of KVM guests), the module's is meant.
    """
    version, vendor = str(kernel.version), engine.extension.name
    chosen = scenario.probes_on(version, vendor)
    symbols = {probe.name: real_name(probe.function, version, vendor) for probe in chosen if probe.function}
    homes = _homes(symbols.values(), scenario, kernel, engine)
    probes = []
    for probe in chosen:
        symbol = symbols.get(probe.name, "")
        if symbol is None:
            raise probe_error(scenario, probe, f"kernel {kernel.release} has no {probe.function}")
        home = homes.get(symbol, ())
        if len(home) > 1:
            raise probe_error(scenario, probe, f"there is a function {symbol} in each of {', '.join(home)}")
        probes.append(KernelProbe(probe.name, symbol, "".join(home), probe.tracepoint, tuple(probe.fetch.items())))
    return probes


def armed_points(scenario: Scenario, kernel: Kernel, engine: Engine) -> dict[str, ArmedPoint]:
    """The scenario's points, by name, as a holder takes them but for the actor's pid.

    Raises ScenarioError as `kernel_probes` does.
    """
    version, vendor = str(kernel.version), engine.extension.name
    chosen = scenario.points_on(version, vendor)
    symbols = {name: real_name(point.function, version, vendor) for name, point in chosen.items()}
    homes = _homes(symbols.values(), scenario, kernel, engine)
    points = {}
    for name, point in chosen.items():
        symbol = symbols[name]
        if symbol is None:
            raise _point_error(scenario, name, f"kernel {kernel.release} has no {point.function}")
        home = homes.get(symbol, ())
        if len(home) > 1:
            raise _point_error(scenario, name, f"there is a function {symbol} in each of {', '.join(home)}")
        points[name] = ArmedPoint(
            name=name,
            symbol=symbol,
            module="".join(home),
            phase=point.phase,
            mode=scenario.holds[name].mode,
            task=point.task,
            cpu=point.cpu,
            hit=point.hit,
            when=tuple(point.when.items()),
        )
    return points


def _homes(
    symbols: Iterable[str | None], scenario: Scenario, kernel: Kernel, engine: Engine
) -> Mapping[str, tuple[str, ...]]:
    """The modules that may be loaded and have a function, for those that are a module's."""
    modules = dict.fromkeys((*_KVM_MODULES, *sorted(named_modules(scenario, kernel, engine))))
    # A module of the other vendor is there, and is not loaded.
    absent = _VENDOR_MODULES - {engine.extension.module}
    homes = modules_of((symbol for symbol in symbols if symbol), kernel, modules)
    return {symbol: tuple(home for home in found if home not in absent) or found for symbol, found in homes.items()}


def probe_error(scenario: Scenario, probe: Probe, what: str) -> UsageError:
    """The error for a `trace` entry, at its line."""
    document = read_yaml(scenario.path)
    return document.error(
        ("trace", scenario.trace.index(probe)), what, "limit the entry with `kernels:` or `vendor:`"
    )


def _point_error(scenario: Scenario, name: str, what: str) -> UsageError:
    document = read_yaml(scenario.path)
    return document.error(("points", name), what, "limit the point with `kernels:` or `vendor:`")
