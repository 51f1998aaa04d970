"""Checks ordering claims of virtualization bring-up patches on real kernels under QEMU."""
