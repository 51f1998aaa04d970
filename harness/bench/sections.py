"""What the bench measures, by the name that `--only` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.bench import guests, holds, images, lab, modules, platform, runs, virtme
from harness.bench.setup import Setup
from harness.bench.turns import Section, Wanted


def _boot(setup: Setup) -> Section:
    return Section("boot", [guests.FirstCommand(setup)])


def _virtme(setup: Setup) -> Section:
    ratio = Wanted("harness / virtme-ng", guests.UNAME, virtme.VIRTME, target=0.5)
    return Section("virtme-ng", [guests.WholeLife(setup), virtme.Virtme(setup)], [ratio])


def _image(setup: Setup) -> Section:
    ratio = Wanted("cached / built", images.CACHED, images.COLD)
    return Section("image", [images.ColdImage(setup), images.CachedImage(setup)], [ratio])


def _modules(setup: Setup) -> Section:
    ratio = Wanted("edited / clean", modules.EDITED, modules.CLEAN)
    return Section("modules", [modules.ModuleRebuild(setup)], [ratio], run_s=1200.0)


def _platform(setup: Setup) -> Section:
    boots = [platform.Boot(setup, platform.WITH), platform.Boot(setup, platform.WITHOUT)]
    ratio = Wanted("with / without the plugin", platform.WITH, platform.WITHOUT, target=1.15)
    return Section("platform", [*boots, platform.Events(setup), platform.Seamcalls(setup)], [ratio])


def _snapshot(setup: Setup) -> Section:
    load_unload = [
        runs.ScenarioRun(setup, runs.LOAD_UNLOAD, "load-unload.yaml"),
        runs.ScenarioRun(setup, runs.LOAD_UNLOAD_COLD, "load-unload.yaml", cold=True),
    ]
    race = [
        runs.ScenarioRun(setup, name, "races/reboot-during-load.yaml", "debian:7.3", "tcg-vmx", cold)
        for name, cold in ((runs.RACE, False), (runs.RACE_COLD, True))
    ]
    ratios = [
        Wanted("load, VM, unload: boot / snapshot", runs.LOAD_UNLOAD_COLD, runs.LOAD_UNLOAD),
        Wanted("reboot race: boot / snapshot", runs.RACE_COLD, runs.RACE),
    ]
    targets = {runs.LOAD_UNLOAD: 1.5, runs.RACE: 4.0}
    return Section("snapshot", [runs.Restored(setup), *load_unload, *race], ratios, targets)


def _engine(setup: Setup) -> Section:
    load_unload = runs.ScenarioRun(setup, runs.LOAD_UNLOAD, "load-unload.yaml")
    return Section("engine", [guests.FirstCommand(setup), load_unload, holds.HoldRoundTrip(setup)], run_s=900.0)


def _lab(setup: Setup) -> Section:
    ratios = [
        Wanted(f"{name}: lab / tcg-svm", lab.IN_LAB.format(name), lab.DIRECT.format(name))
        for name in (guests.BOOT, runs.LOAD_UNLOAD, holds.ROUND_TRIP)
    ]
    return Section("lab", [lab.InTheLab(setup), lab.OnThisHost(setup)], ratios, run_s=2400.0, prepare_s=3600.0)


SECTIONS: Mapping[str, Callable[[Setup], Section]] = {
    "boot": _boot,
    "virtme-ng": _virtme,
    "image": _image,
    "modules": _modules,
    "platform": _platform,
    "snapshot": _snapshot,
    "engine": _engine,
    "lab": _lab,
}
