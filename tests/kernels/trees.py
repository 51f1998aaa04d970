"""A kernel source tree in miniature: kbuild's targets and files, without the hours."""

from __future__ import annotations

from pathlib import Path

# O= and M= as kbuild has them. `builds` counts. A "module" is the text of its source, whatever it is.
_MAKEFILE = """\
x86_64_defconfig:
	echo CONFIG_DEFAULT=y > $(O)/.config
tinyconfig:
	echo CONFIG_TINY=y > $(O)/.config
olddefconfig:
	awk -F= '/^# CONFIG_/ { split($$0, words, " "); delete last[words[2]] } /^CONFIG_/ { last[$$1] = $$2 } \\
		END { for (name in last) if (name != "CONFIG_UNMET") print name "=" last[name] }' \\
		$(O)/.config > $(O)/.config.new
	mv $(O)/.config.new $(O)/.config
bzImage:
	mkdir -p $(O)/arch/x86/boot $(O)/include/config
	sleep $(SECONDS_TO_BUILD)
	echo 9.8.7 > $(O)/include/config/kernel.release
	cat init/main.c > $(O)/arch/x86/boot/bzImage
	echo 'ffffffff81000000 T _text' > $(O)/System.map
	grep -q valid init/main.c || { echo 'init/main.c:1: error: this does not compile'; exit 1; }
	echo built >> $(O)/builds
modules:
	$(if $(M),cat $(M)/*.c > $(M)/$(notdir $(M)).ko)
modules_install:
	mkdir -p $(INSTALL_MOD_PATH)/lib/modules/9.8.7
	$(if $(M),cp $(M)/*.ko $(INSTALL_MOD_PATH)/lib/modules/9.8.7)
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
