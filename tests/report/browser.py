"""A headless Chromium for tests: the host's own, else Debian's, unpacked into the cache."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from harness import paths
from harness.cache import locked
from harness.deadline import Deadline
from harness.debian import Archive

_PROGRAMS = ("chromium-headless-shell", "chromium")
# Of the oldest release that the harness runs on: its programs run with that release's C library and with any newer.
_SUITE = "bookworm-security"
_PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core")
# The C library is the host's own, since the loader is; the others (300 MB) are for drawing by a GPU.
_LEFT_OUT = ("libc6", "libgl1-mesa-dri", "libllvm15", "libz3-4")
_UNPACK_S = 300.0  # 100 MB on a slow line; measured: 9 s with a near mirror

_ARGUMENTS = (
    "--no-sandbox",  # the tests may run as root, and see only pages of their own
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{root}/usr/share/fonts</dir><cachedir>{root}/fontcache</cachedir></fontconfig>
"""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, running. Raises HostFault when there is none and the archive cannot be reached."""
    program, environment = _program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=list(_ARGUMENTS), env={**os.environ, **environment}
        )
        try:
            yield browser
        finally:
            browser.close()


@functools.cache
def _program() -> tuple[str, dict[str, str]]:
    for name in _PROGRAMS:
        if installed := shutil.which(name):
            return installed, {}
    root = paths.cache_dir() / "chromium"
    deadline = Deadline.after(_UNPACK_S, "unpacking Chromium")
    with locked(root.with_suffix(".lock"), deadline):
        if not root.is_dir():
            archive = Archive()
            packages = archive.closure(_PACKAGES, _SUITE, deadline)
            archive.unpack([package for package in packages if package.name not in _LEFT_OUT], root, deadline)
        (root / "fonts.conf").write_text(_FONTS.format(root=root))
    return str(root / "usr/lib/chromium/chromium-headless-shell"), {
        "LD_LIBRARY_PATH": ":".join(map(str, _library_folders(root))),
        "FONTCONFIG_FILE": str(root / "fonts.conf"),
    }


def _library_folders(root: Path) -> list[Path]:
    """Libraries' folders, also those of their own that the packages' RUNPATHs mean: /usr/lib/…/pulseaudio."""
    return sorted({library.parent for top in ("lib", "usr/lib") for library in (root / top).rglob("lib*.so*")})
