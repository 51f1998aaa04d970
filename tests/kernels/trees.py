"""A kernel source tree in miniature: kbuild's targets and files, without the hours."""

from __future__ import annotations

from pathlib import Path

# O= as kbuild has it. `builds` counts; `modules` is left out, since CONFIG_MODULES is not set.
_MAKEFILE = """\
x86_64_defconfig:
	echo CONFIG_DEFAULT=y > $(O)/.config
olddefconfig:
	sed -i /CONFIG_UNMET/d $(O)/.config
bzImage:
	mkdir -p $(O)/arch/x86/boot $(O)/include/config
	sleep $(SECONDS_TO_BUILD)
	echo 9.8.7 > $(O)/include/config/kernel.release
	cat init/main.c > $(O)/arch/x86/boot/bzImage
	grep -q valid init/main.c || { echo 'init/main.c:1: error: this does not compile'; exit 1; }
	echo built >> $(O)/builds
"""
_KCONFIG = """\
config UNMET
	bool "Cannot be set"
	depends on MISSING
"""


def make_tree(path: Path, seconds_to_build: float = 0) -> Path:
    """A source tree at `path` whose "kernel image" is the text of init/main.c; without `valid` in it, it fails."""
    (path / "init").mkdir(parents=True)
    (path / "Makefile").write_text(f"SECONDS_TO_BUILD = {seconds_to_build}\n{_MAKEFILE}")
    (path / "Kconfig").write_text(_KCONFIG)
    (path / "init/main.c").write_text("valid: one\n")
    # The last line is how Debian's linux-source ends.
    (path / ".gitignore").write_text("*.o\n.*\n/*\n")
    return path
