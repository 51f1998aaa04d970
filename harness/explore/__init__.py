"""Every interleaving of a few activities of the kernel, one run each."""
