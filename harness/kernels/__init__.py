"""Where a kernel comes from: a Debian package, a source tree, a git revision, a built image."""

from harness.kernels.model import BuildOptions, Kernel, KernelVersion

__all__ = ["BuildOptions", "Kernel", "KernelVersion"]
