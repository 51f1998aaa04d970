"""The guest image: built from its packages, and found in the cache."""

from __future__ import annotations

import time
from collections.abc import Mapping

from harness.bench.caches import borrowed_cache
from harness.bench.setup import Setup
from harness.deadline import Deadline
from harness.errors import HostFault
from harness.images.initramfs import build_image
from harness.images.recipe import load_recipe

COLD = "guest image, built"
CACHED = "guest image, cached"

_PACKAGES = ("images/packages-*", "apt")


class ColdImage:
    """The image with an empty image cache; its packages are there already."""

    name = COLD

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def prepare(self, deadline: Deadline) -> None:
        build_image(self._setup.kernel, load_recipe(), (), deadline)

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        kernel = self._setup.kernel
        with borrowed_cache(self._setup.scratch, _PACKAGES) as cache:
            begin = time.monotonic()
            image = build_image(kernel, load_recipe(), (), deadline)
            end = time.monotonic()
        if not image.base.is_relative_to(cache):
            raise HostFault("the image was not built", expected=f"an image in {cache}", found=str(image.base))
        return {COLD: end - begin}


class CachedImage:
    """The same when nothing has changed since."""

    name = CACHED

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def prepare(self, deadline: Deadline) -> None:
        build_image(self._setup.kernel, load_recipe(), (), deadline)

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        begin = time.monotonic()
        build_image(self._setup.kernel, load_recipe(), (), deadline)
        return {CACHED: time.monotonic() - begin}
