"""The plugin's holder: against a peer, and (boot) the order of its events; test_every_holder.py has the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import NotExercised
from harness.machine.bell import Bell
from harness.platform.link import LinkLost, Platform
from harness.probes.functions import FunctionProbes
from harness.probes.plugin_holds import PluginHolder
from harness.probes.points import ArmedPoint, Held
from tests import guests
from tests.platform.peer import Peer, soon, started
from tests.probes.holding import SETUP, SYSCORE, Holding, Stand, holding_at
from tests.probes.test_functions import END, KVM, LAYOUT, SYMBOLS, load, told


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with Platform(Path("platform.so"), tmp_path, (), None) as made:
        yield made


def holder_of(platform: Platform) -> tuple[PluginHolder, Peer, Bell]:
    functions = FunctionProbes(platform, SYMBOLS, LAYOUT)
    functions.tell_kernel()
    bell = Bell()
    return PluginHolder(functions, bell.ring), started(platform), bell


def number_of(peer: Peer) -> str:
    return told(peer, "point")[-1].split()[1]


def test_a_point_with_all_its_filters(platform: Platform) -> None:
    holder, peer, _ = holder_of(platform)
    when = (("$arg1:s32", -2), ("%si:u8", "0x10"), ("+8($arg2):string", "kvm"))
    wanted = ArmedPoint("in", "register_syscore", "", "return", "soft", 7, "sh", 1, 2, when)
    holder.arm(wanted, soon())
    number = number_of(peer)
    assert peer.commands[-2:] == [
        f"point {number} r in 7 7368 1 2 r:rdi:4=fffffffe r:rsi:1=10 d:rsi:8:40s=6b766d",
        f"place {number} ffffffff81000400",
    ]


def test_copies_of_a_function_are_places_of_one_point(platform: Platform) -> None:
    holder, peer, _ = holder_of(platform)
    holder.arm(ArmedPoint("in", "with_copy", hit=2), soon())
    assert peer.commands[-1] == f"place {number_of(peer)} ffffffff81000600 ffffffff81000700"
    with pytest.raises(NotExercised, match=r"at point args \(with_copy\): the compiler changed"):
        holder.arm(ArmedPoint("args", "with_copy", when=(("$arg1", 1),)), soon())
    assert len(told(peer, "point")) == 1


def test_held_and_let_go(platform: Platform) -> None:
    holder, peer, bell = holder_of(platform)
    holder.arm(ArmedPoint("in", "register_syscore"), soon())
    assert holder.held("in") is None and holder.held("other") is None
    peer.say(f"held {number_of(peer)} 1 63 0 1 6d6f6470726f6265")
    held = bell.wait_for(lambda: holder.held("in"), soon())
    assert held == Held("in", 1, "modprobe", 99, 0, True) and held.preemptible
    holder.release("in", soon())
    assert peer.commands[-1] == f"unpoint {number_of(peer)}"
    assert holder.held("in") is None and holder.lost() == ()
    holder.release("in", soon())
    assert len(told(peer, "unpoint")) == 1


def test_code_in_the_place_of_freed_init_code_holds_nobody(platform: Platform) -> None:
    holder, peer, _ = holder_of(platform)
    load(peer, KVM, "kvm", {"kvm_init": (0xFFFFFFFFC0009000, 0x40)})
    holder.arm(ArmedPoint("in", "kvm_init", "kvm", hit=2), soon())
    assert peer.commands[-1] == f"place {number_of(peer)} ffffffffc0009000"
    load(peer, KVM + 0x10000, "msr", {"msr_init": (0xFFFFFFFFC0001000, 0x200)})
    assert peer.commands[-1].split()[0] != "place"
    load(peer, KVM + 0x20000, "snd", {"snd_init": (0xFFFFFFFFC0008F00, 0x200)})
    assert peer.commands[-1] == f"place {number_of(peer)}"


def test_lost_stays_lost(platform: Platform) -> None:
    holder, peer, bell = holder_of(platform)
    holder.arm(ArmedPoint("in", "register_syscore"), soon())
    peer.say(f"held {number_of(peer)} 1 63 0 1 -")
    peer.say(f"lost {number_of(peer)}")
    assert bell.wait_for(lambda: holder.lost() or None, soon()) == ("in",)
    assert holder.held("in") is None
    holder.release("in", soon())
    assert holder.lost() == ("in",)


def test_a_point_goes_and_comes_with_its_module(platform: Platform) -> None:
    holder, peer, _ = holder_of(platform)
    table = {"kvm_init": (0xFFFFFFFFC0000000, 0x40)}
    holder.arm(ArmedPoint("first", "kvm_init", "kvm"), soon())
    first = number_of(peer)
    assert peer.commands[-1] == f"place {first}"
    load(peer, KVM, "kvm", table)
    assert told(peer, "place")[-1] == f"place {first} ffffffffc0000000"
    holder.arm(ArmedPoint("second", "kvm_init", "kvm"), soon())  # the module is there already
    second = number_of(peer)
    assert told(peer, "place")[-1] == f"place {second} ffffffffc0000000"
    peer.ask(f"{END} 0 {KVM:x}")
    assert told(peer, "place")[-2:] == [f"place {first}", f"place {second}"]
    holder.release("first", soon())
    load(peer, KVM, "kvm", {"kvm_init": (0xFFFFFFFFC0200000, 0x40)})
    assert told(peer, "place")[-1] == f"place {second} ffffffffc0200000"


def test_a_module_without_the_function_is_not_exercised(platform: Platform) -> None:
    holder, peer, _ = holder_of(platform)
    holder.arm(ArmedPoint("in", "kvm_online_cpu", "kvm"), soon())
    load(peer, KVM, "kvm", {"kvm_init": (0xFFFFFFFFC0000000, 0x40)})
    with pytest.raises(NotExercised, match="there is no function kvm_online_cpu"):
        holder.held("in")
    with pytest.raises(NotExercised, match="there is no function kvm_online_cpu"):
        holder.arm(ArmedPoint("again", "kvm_online_cpu", "kvm"), soon())


def test_a_word_where_a_number_is_fetched_is_not_exercised(platform: Platform) -> None:
    holder, _, _ = holder_of(platform)
    with pytest.raises(NotExercised, match="'many' is no number"):
        holder.arm(ArmedPoint("in", "register_syscore", when=(("$arg1:u32", "many"),)), soon())


def test_closing_lets_everybody_go(platform: Platform) -> None:
    holder, peer, _ = holder_of(platform)
    for name in ("one", "two"):
        holder.arm(ArmedPoint(name, "register_syscore"), soon())
    holder.close()
    holder.close()
    assert len(told(peer, "unpoint")) == 2
    platform.close()
    with pytest.raises(LinkLost):
        holder.arm(ArmedPoint("late", "register_syscore"), soon())
    holder.close()


# --- in a real kernel -----------------------------------------------------------------------------------------


@pytest.fixture
def holding(plugin: Stand) -> Iterator[Holding]:
    with holding_at(plugin) as holding:
        yield holding


@pytest.mark.boot
def test_held_and_released_come_before_the_function_s_own_events(holding: Holding) -> None:
    holding.arm(ArmedPoint("in-load", SYSCORE))
    load = holding.start(holding.load)
    holding.held("in-load")
    holding.release("in-load")
    assert load.wait(guests.deadline()).status == 0
    assert marks(holding, "in-load", SYSCORE) == [
        ("in-load", "held"),
        ("in-load", "released"),
        (SYSCORE, "call"),
        (SYSCORE, "return"),
    ]


@pytest.mark.boot
def test_two_at_one_place_are_both_released_before_the_function_begins(holding: Holding) -> None:
    for name in ("one", "two"):
        holding.arm(ArmedPoint(name, SYSCORE))
    load = holding.start(holding.load)
    for name in ("one", "two"):
        holding.held(name)
        holding.release(name)
    assert load.wait(guests.deadline()).status == 0
    order = marks(holding, "one", "two", SYSCORE)
    assert order.index((SYSCORE, "call")) > max(order.index((name, "released")) for name in ("one", "two"))


@pytest.mark.boot
def test_a_hold_after_the_return_comes_after_the_return_s_event(holding: Holding) -> None:
    holding.run(f"{holding.load} && {holding.unload}")
    states = [event.args["state"] for event in holding.events() if (event.name, event.phase) == (SETUP, "call")]
    state = int(str(states[-1]))
    holding.arm(ArmedPoint("set-up", SETUP, phase="return", when=(("$arg1:u32", state),)))
    load = holding.start(holding.load)
    holding.held("set-up")
    assert [(event.name, event.phase) for event in holding.events()][-2:] == [(SETUP, "return"), ("set-up", "held")]
    holding.release("set-up")
    assert load.wait(guests.deadline()).status == 0


def marks(holding: Holding, *names: str) -> list[tuple[str, str]]:
    return [(event.name, event.phase) for event in holding.events() if event.name in names]
