"""What the bench measures, by the name that `--only` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.bench import guests, images, modules, platform, virtme
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


SECTIONS: Mapping[str, Callable[[Setup], Section]] = {
    "boot": _boot,
    "virtme-ng": _virtme,
    "image": _image,
    "modules": _modules,
    "platform": _platform,
}
