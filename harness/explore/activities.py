"""What can be explored: activities, the points at which they can be held, and what must be true afterwards.

The points are chosen to be few and telling: C(m+n, n) schedules of m and n points grow fast. Between two of them
lies one thing that another activity may care about. All of them are at places where a task can be preempted, and on
the way of a success as well as of a failure, so that a schedule does not lose its way.

Sources: virt/kvm/kvm_main.c, kernel/reboot.c, kernel/cpu.c, kernel/power/suspend.c of 6.1, 6.12 and 7.3.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.errors import UsageError
from harness.explore.prune import Independence, shared_nothing
from harness.scenario.faults import closest
from harness.scenario.kinds import KernelRange, PointPhase

# What a segment may share with another one. Whatever reads or writes; KVM's mutants do either in surprising places.
EVERYTHING = "everything"
VIRT = "virtualization"  # which CPUs have it on, KVM's usage count and callbacks, the module itself
STATE = "system_state"
DEVICES = "devices"
CPUS = "cpus"  # which CPUs are online, cpu_hotplug_lock, and the hotplug states
PLUGGING = "plugging"  # whether CPUs may come and go: cpu_hotplug_disabled, cpu_add_remove_lock

Json = dict[str, Any]


@dataclass(frozen=True)
class SyncPoint:
    """Where an activity can be held, and what the segment that begins there may touch.

    `meaning` says what has happened and what comes next, to somebody who reads a schedule.
    """

    function: str
    meaning: str
    phase: PointPhase = "call"
    touches: frozenset[str] = frozenset({EVERYTHING})
    hit: int = 1
    task: str = ""  # another task than the actor's does this: a CPU's hotplug thread
    anyone: bool = False  # a task whose name nobody knows before does it: a kworker
    beside: frozenset[str] = frozenset()  # worth a hold beside these activities only; empty: beside any
    telling: bool = False  # one of the few that are worth it among three activities, too
    kernels: KernelRange = field(default_factory=KernelRange)

    @property
    def text(self) -> str:
        """As the command line takes it: register_syscore.return."""
        times = f"#{self.hit}" if self.hit > 1 else ""
        return f"{self.function}{'.return' if self.phase == 'return' else ''}{times}"


@dataclass(frozen=True)
class Activity:
    """Something that a task does to the kernel.

    `step` is what a scenario's actor does, on CPU `cpu`; `needs` are facts that have to be made true before. `task`
    is the name of the task that does it. `outcomes` are right ones, more of them `beside` certain others that have
    begun; those that `stand_in_the_way` are a reason where they wait at their first points, too.
    `ends` is where the machine is when it has been done, and `memory` how many MiB it needs for that, if many.
    """

    name: str
    about: str
    step: Json
    task: str
    points: tuple[SyncPoint, ...]
    cpu: int | None = None
    needs: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ("OK",)
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stand_in_the_way: tuple[str, ...] = ()
    ends: Literal["", "reset", "power-off", "jump"] = ""
    memory: int | None = None
    undo: tuple[Json, ...] = ()  # steps after it, before KVM is unloaded

    def points_on(self, version: str, others: Sequence[Activity]) -> tuple[SyncPoint, ...]:
        """The points that a kernel `version` has, in the order in which a kernel without bugs comes to them."""
        names = {other.name for other in others}
        return tuple(
            point
            for point in self.points
            if point.kernels.contains(version)
            and (not point.beside or point.beside & names)
            and (point.telling or len(others) == 1)
        )

    def outcomes_beside(self, others: Sequence[Activity], begun: Collection[str]) -> list[str]:
        """What this activity may end with beside `others`, of which these have begun."""
        there = {*begun, *self.stand_in_the_way}
        given = [outcome for other in others if other.name in there for outcome in self.beside.get(other.name, ())]
        return list(dict.fromkeys((*self.outcomes, *given)))


# Facts that activities need, each with the steps that make it true; in the order in which they are made.
FACTS: dict[str, list[Json]] = {
    "hotplug state taken": [{"load": "cpuhp_squatter", "id": "squatter"}],
    # Since 6.12 virtualization is enabled when KVM is loaded, unless it is told to wait for the first VM.
    "lazy module": [
        {"load": {"module": "kvm", "params": {"enable_virt_at_load": 0}}, "id": "kvm", "kernels": ">=6.12"},
        {"load": "kvm_vendor", "id": "vendor"},
    ],
    "module": [{"load": "kvm_vendor", "id": "vendor"}],
    "kernel thread": [{"load": "kvm_nofreeze", "id": "nofreeze"}],
    "vm": [{"vm": 0, "id": "guest"}],
    "cpu 2 offline": [{"offline": 2, "id": "leave"}],
    # The freezer gives up on a task that is held after this instead of after 20 s.
    "short freezer": [{"run": "echo 1000 > /sys/power/pm_freeze_timeout", "id": "freezer"}],
}

_NEW = KernelRange(">=6.12")
_OLD = KernelRange("<6.12")

# Until KVM looks at system_state every part of it may depend on it: where it looks is what mutants change.
_KVM = frozenset({VIRT, STATE, CPUS})


def _enabling(first: str, task: str = "") -> tuple[SyncPoint, ...]:
    """kvm_enable_virtualization() since 6.12, whoever calls it."""
    enable, cpuhp, register = "kvm_enable_virtualization", "__cpuhp_setup_state", "register_syscore"
    return (
        SyncPoint(enable, first, touches=_KVM, task=task, kernels=_NEW, telling=True),
        SyncPoint(cpuhp, "before any CPU is enabled", touches=_KVM, task=task, kernels=_NEW),
        SyncPoint(
            register, "before the syscore ops are registered", touches=_KVM, task=task, kernels=_NEW, telling=True
        ),
        SyncPoint(register, "after the syscore ops are registered", "return", _KVM, task=task, kernels=_NEW),
        SyncPoint(enable, "after enabling", "return", task=task, kernels=_NEW, telling=True),
    )


def _disabling(first: str) -> tuple[SyncPoint, ...]:
    """kvm_disable_virtualization() since 6.12, whoever calls it."""
    return (
        SyncPoint("kvm_disable_virtualization", first, touches=_KVM, kernels=_NEW, telling=True),
        SyncPoint("__cpuhp_remove_state", "before any CPU is disabled", touches=_KVM, kernels=_NEW, telling=True),
        SyncPoint("kvm_disable_virtualization", "after disabling", "return", kernels=_NEW),
    )


def _going_down(first: str, last: str, end: str, task: str = "") -> tuple[SyncPoint, ...]:
    """kernel_restart(), kernel_power_off() and kernel_kexec().

    `task` does it as one of several of its actor, of which others call notifiers as well; and the actor counts as
    done before `last`, since the console tells of it.
    """
    return (
        SyncPoint(first, "before the reboot notifiers", telling=True),
        SyncPoint(
            "blocking_notifier_call_chain",
            "after the reboot notifiers, before system_state changes",
            "return",
            frozenset({STATE}),
            task=task,
        ),
        # device_shutdown(), and migrate_to_reboot_cpu(), which ends CPU hotplug.
        SyncPoint(
            "device_shutdown",
            "after system_state has changed, before the devices are shut down",
            touches=frozenset({DEVICES, PLUGGING}),
        ),
        SyncPoint("syscore_shutdown", "before the syscore ops' shutdown", telling=True),
        SyncPoint(last, f"after the syscore ops' shutdown, before {end}", telling=True, task=task),
    )


def _plugging(callback: str, meaning: str, thread: str, by_kworker: bool = False) -> tuple[SyncPoint, ...]:
    """A CPU that goes or comes; `callback` is one that its own hotplug thread calls.

    Not KVM's, which that thread calls for whoever installs or removes KVM's state, too. Since 6.7 a CPU is taken
    offline by a kworker, for which the writer of `online` waits (kernel/cpu.c, cpu_down_maps_locked()).
    cpus_write_lock() itself is inlined; nobody else takes such a lock for writing then.
    """
    lock = "percpu_down_write"
    return (
        SyncPoint(lock, "before the hotplug lock is taken", telling=True, anyone=by_kworker),
        SyncPoint(lock, "with the hotplug lock", "return", telling=True, anyone=by_kworker),
        SyncPoint(callback, meaning, task=thread),
        SyncPoint("percpu_up_write", "before the hotplug lock is given back", anyone=by_kworker),
    )


_SHUTS_DOWN = ("reboot", "poweroff", "kexec")
_REFUSED_AT_SHUTDOWN = dict.fromkeys(_SHUTS_DOWN, ("EBUSY",))

# All that wait at their first points as user tasks.
_IN_THE_KERNEL = ("load", "unload", "vm", "close", "offline", "online", *_SHUTS_DOWN)

# With a test level it comes back by itself (kernel/power/suspend.c, suspend_test()).
_SUSPEND = "; ".join(
    (
        "echo 0 > /sys/module/suspend/parameters/pm_test_delay",
        "echo core > /sys/power/pm_test",
        "echo deep > /sys/power/mem_sleep",
        "echo mem > /sys/power/state",
    )
)

# What the thread was told comes in a parameter; -115 is EINPROGRESS.
_RESULT = "/sys/module/kvm_nofreeze/parameters/result"
_REFUSED = (
    "echo Y > /sys/module/kvm_nofreeze/parameters/vm; "
    f"until read -r result < {_RESULT} && [ $result != -115 ]; do usleep 10000; done; [ $result = -16 ]"
)

_ALL = (
    Activity(
        "load",
        "KVM's vendor module is loaded",
        {"load": "kvm_vendor"},
        "guestctl",
        (
            SyncPoint(
                "__x64_sys_finit_module",
                "before the module is inserted",
                beside=frozenset({"unload", "vm"}),
                telling=True,
            ),
            *_enabling("before virtualization is enabled"),
            # 6.1 enables with the first VM.
            SyncPoint("kvm_init", "before the vendor's module meets KVM", kernels=_OLD, telling=True),
            SyncPoint("register_reboot_notifier", "before the reboot notifier is registered", kernels=_OLD),
            SyncPoint("misc_register", "before /dev/kvm is there", kernels=_OLD, telling=True),
        ),
        cpu=1,
        beside={**_REFUSED_AT_SHUTDOWN, "unload": ("EEXIST", "EBUSY")},
    ),
    Activity(
        "unload",
        "KVM's vendor module is removed",
        {"unload": "kvm_vendor"},
        "guestctl",
        (
            SyncPoint(
                "__x64_sys_delete_module",
                "before the module is looked at",
                beside=frozenset({"load", "vm", "close"}),
                telling=True,
            ),
            SyncPoint("misc_deregister", "before /dev/kvm is removed"),
            *_disabling("before virtualization is disabled"),
            SyncPoint("unregister_syscore", "before the syscore ops are removed", kernels=_OLD, telling=True),
            SyncPoint("unregister_reboot_notifier", "before the reboot notifier is removed", kernels=_OLD),
        ),
        needs=("module",),
        beside={"load": ("EAGAIN",), "vm": ("EAGAIN",), "close": ("EAGAIN",)},
        stand_in_the_way=("vm", "close"),  # who has /dev/kvm or a VM open has the module
    ),
    Activity(
        "vm",
        "the first VM is created, with which virtualization is enabled",
        {"vm": 0},
        "guestctl",
        (
            *_enabling("before virtualization is enabled"),
            SyncPoint("kvm_arch_init_vm", "before the VM is set up", kernels=_OLD, telling=True),
            SyncPoint("kvm_arch_init_vm", "before virtualization is enabled", "return", kernels=_OLD, telling=True),
            SyncPoint("kvm_coalesced_mmio_init", "after enabling", kernels=_OLD, telling=True),
        ),
        cpu=1,
        needs=("lazy module",),
        beside={**_REFUSED_AT_SHUTDOWN, "unload": ("ENOENT", "ENODEV")},
        undo=({"close": "vm", "id": "close-vm"},),
    ),
    Activity(
        "refused",
        "a kernel thread, which no suspend waits for, creates the first VM, and fails: KVM's hotplug state is taken",
        {"run": _REFUSED},
        "kvm_nofreeze",
        _enabling("before virtualization is enabled", task="kvm_nofreeze"),
        needs=("hotplug state taken", "lazy module", "kernel thread"),
        undo=({"unload": ["kvm_nofreeze", "cpuhp_squatter"], "id": "unload-helpers"},),
    ),
    Activity(
        "close",
        "the last VM is closed, with which virtualization is disabled",
        {"close": "guest"},
        "guestctl",
        (
            SyncPoint("kvm_vm_release", "before the VM is released", task="guestctl", telling=True),
            SyncPoint("kvm_disable_virtualization", "before disabling", task="guestctl", kernels=_NEW),
            SyncPoint(
                "__cpuhp_remove_state", "before any CPU is disabled", task="guestctl", kernels=_NEW, telling=True
            ),
            SyncPoint("kvm_disable_virtualization", "after disabling", "return", task="guestctl", kernels=_NEW),
            SyncPoint(
                "kvm_arch_destroy_vm", "before the VM's parts are freed", task="guestctl", kernels=_OLD, telling=True
            ),
        ),
        needs=("lazy module", "vm"),
    ),
    Activity(
        "offline",
        "CPU 3 goes offline",
        {"offline": 3},
        "guestctl",
        _plugging("sched_cpu_deactivate", "before KVM's callback on the CPU", "cpuhp/3", by_kworker=True),
        cpu=0,
        beside=dict.fromkeys((*_SHUTS_DOWN, "suspend"), ("EBUSY",)),
        undo=({"online": 3, "id": "back"},),
    ),
    Activity(
        "online",
        "CPU 2 comes back online",
        {"online": 2},
        "guestctl",
        _plugging("sched_cpu_activate", "after KVM's callback on the CPU", "cpuhp/2"),
        cpu=0,
        needs=("cpu 2 offline",),
        beside=dict.fromkeys((*_SHUTS_DOWN, "suspend"), ("EBUSY",)),
    ),
    Activity(
        "suspend",
        "the machine is suspended as far as its last CPU, and comes back",
        {"run": _SUSPEND},
        "sh",
        (
            SyncPoint("pm_suspend", "before the suspend", telling=True),
            SyncPoint("freeze_processes", "before user tasks are frozen", telling=True),
            SyncPoint("freeze_secondary_cpus", "with user tasks frozen, before the other CPUs go"),
            SyncPoint("thaw_secondary_cpus", "before the other CPUs come back", telling=True),
            SyncPoint("thaw_processes", "before user tasks are thawed"),
        ),
        cpu=0,
        needs=("short freezer",),
        beside=dict.fromkeys(_IN_THE_KERNEL, ("FAILED",)),
        # The freezer gives up on a task in the kernel; and who shuts down has system_transition_mutex.
        stand_in_the_way=_IN_THE_KERNEL,
    ),
    Activity(
        "reboot",
        "reboot -f",
        {"reboot": "force"},
        "reboot",
        _going_down("kernel_restart", "machine_restart", "the machine restarts"),
        cpu=0,
        ends="reset",
    ),
    Activity(
        "poweroff",
        "poweroff -f",
        {"poweroff": "force"},
        "poweroff",
        _going_down("kernel_power_off", "machine_power_off", "the machine powers off"),
        cpu=0,
        ends="power-off",
    ),
    Activity(
        "kexec",
        "kexec -e, after the machine's own kernel was loaded",
        {"kexec": "force"},
        "kexec",
        # CPUs may come and go again from before machine_shutdown() on, which stops them.
        _going_down("kernel_kexec", "machine_shutdown", "the other CPUs are stopped for the next kernel", "kexec"),
        cpu=0,
        ends="jump",
        memory=1024,
    ),
)

ACTIVITIES: dict[str, Activity] = {activity.name: activity for activity in _ALL}


@dataclass(frozen=True)
class Cast:
    """The activities of an exploration, in the order given."""

    activities: tuple[Activity, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> Cast:
        """Raises UsageError for an unknown activity, for fewer than two, and for two that cannot be together."""
        for name in names:
            if name not in ACTIVITIES:
                raise UsageError(f"unknown activity {name!r}", hint=closest(name, ACTIVITIES))
        if len(set(names)) < len(names) or not 2 <= len(names) <= 3:
            raise UsageError("two or three different activities can be explored", found=" ".join(names))
        made = cls(tuple(ACTIVITIES[name] for name in names))
        if len(made.enders) > 1:  # the first has system_transition_mutex at its first point (kernel/reboot.c)
            raise UsageError("one activity at most can end the boot", found=" ".join(sorted(made.enders)))
        return made

    def __getitem__(self, name: str) -> Activity:
        return next(activity for activity in self.activities if activity.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(activity.name for activity in self.activities)

    @property
    def enders(self) -> frozenset[str]:
        """The activities with which the boot is over."""
        return frozenset(activity.name for activity in self.activities if activity.ends)

    @property
    def jumps(self) -> bool:
        """Whether the next kernel follows without a reset."""
        return any(activity.ends == "jump" for activity in self.activities)

    def others(self, name: str) -> list[Activity]:
        return [activity for activity in self.activities if activity.name != name]


def set_up(activities: Sequence[Activity]) -> list[Json]:
    """The steps before the activities, which make true what they need."""
    needed = {fact for activity in activities for fact in activity.needs}
    if "lazy module" in needed:
        needed.discard("module")
    elif not needed & {"module"} and all(activity.name != "load" for activity in activities):
        needed.add("module")  # what has nothing to do with KVM is not worth exploring
    return [step for fact, steps in FACTS.items() if fact in needed for step in steps]


def independence(points: Mapping[str, Sequence[SyncPoint]]) -> Independence:
    """Which segments share nothing, by what is declared with their points."""
    touched = {(name, i): point.touches for name, held in points.items() for i, point in enumerate(held, start=1)}
    return shared_nothing(touched, EVERYTHING)
