"""Where a kernel comes from: a Debian package, a source tree, a git revision, a built image."""

from harness.kernels.model import BuildOptions, Kernel, KernelVersion
from harness.kernels.resolve import kernels_in_cache, remove, resolve, with_own_modules, with_patches

__all__ = [
    "BuildOptions",
    "Kernel",
    "KernelVersion",
    "kernels_in_cache",
    "remove",
    "resolve",
    "with_own_modules",
    "with_patches",
]
