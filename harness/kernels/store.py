"""The cache of kernels: one directory per content address, complete or absent.

kernels/
  <key>/meta.json       what it is, where it came from, and the size of every file
  <key>/…               image, config, modules: laid out as its source laid them out
  pins.json             which packages `debian:6.12` stood for when it was first resolved
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness import paths, progress
from harness.cache import disk_full_is_a_host_fault, locked, staged_dir
from harness.deadline import Deadline
from harness.kernels.kconfig import read_config
from harness.kernels.model import Kernel

_FORMAT = 1  # of meta.json; entries of another format are rebuilt


@dataclass(frozen=True)
class Parts:
    """What a source put into an entry; paths are relative to it."""

    release: str
    image: str
    config: str
    modules: str | None
    symbols: str | None = None  # System.map
    overlay: Mapping[str, str] = field(default_factory=dict)
    base: str = ""  # key of the entry that has image, config and modules, for an entry that is only an overlay
    provenance: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A kernel in the cache, with what `harness kernels list` tells about it."""

    key: str
    path: Path
    spec: str  # as it was first asked for
    created: float  # seconds since the epoch
    parts: Parts
    bytes: int  # of all its files, a base not counted

    @property
    def overlay(self) -> dict[str, Path]:
        """The modules that replace those of the base, or are added to them, by name."""
        return {name: self.path / path for name, path in self.parts.overlay.items()}

    def kernel(self, spec: str, base: Entry | None = None) -> Kernel:
        """The kernel to boot; `base` is the entry named by `parts.base`."""
        stock = base or self
        modules, symbols = stock.parts.modules, stock.parts.symbols
        return Kernel(
            spec=spec,
            release=self.parts.release,
            image=stock.path / stock.parts.image,
            config=read_config(stock.path / stock.parts.config),
            modules=stock.path / modules if modules else None,
            symbols=stock.path / symbols if symbols else None,
            overlay=self.overlay,
            key=self.key,
            provenance=self.parts.provenance,
        )


class CorruptEntry(Exception):
    """The entry `key` is not what its meta.json says; the text says in what."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(what)
        self.key = key


def root() -> Path:
    return paths.cache_dir() / "kernels"


def key_of(identity: Mapping[str, object]) -> str:
    """The content address of what `identity` (JSON) determines."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def load(key: str) -> Entry | None:
    """The entry `key`, or None when there is none. Raises CorruptEntry."""
    path = root() / key
    if not path.is_dir():
        return None
    try:
        meta = json.loads((path / "meta.json").read_bytes())
        if meta["format"] != _FORMAT:
            raise CorruptEntry(key, f"its format is {meta['format']}, expected {_FORMAT}")
        sizes: dict[str, int] = meta["files"]
        entry = Entry(key, path, meta["spec"], meta["created"], Parts(**meta["parts"]), sum(sizes.values()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptEntry(key, f"meta.json cannot be read: {error}") from error
    _verify(path, sizes)
    return entry


def obtain(key: str, spec: str, make: Callable[[Path], Parts], deadline: Deadline) -> Entry:
    """The entry `key`, made by `make(directory)` when it is missing or corrupt. Parallel runs make it once."""
    entry = _load_or_report(key)
    if entry is not None:
        return entry
    with locked(root() / f"{key}.lock", deadline):
        entry = _load_or_report(key)  # another run may have made it meanwhile
        if entry is not None:
            return entry
        with staged_dir(root() / key) as stage:
            parts = make(stage)
            _write_meta(stage, key, spec, parts)
    made = load(key)
    assert made is not None
    return made


def entries() -> Iterator[Entry | CorruptEntry]:
    """Every entry, newest first; for a corrupt one, what is wrong with it."""
    folders = [path for path in root().glob("[0-9a-f]*") if path.is_dir()]
    for path in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            entry = load(path.name)
        except CorruptEntry as error:
            yield error
        else:
            if entry is not None:
                yield entry


def remove(key: str, deadline: Deadline) -> None:
    """Removes the entry `key`, atomically for a run that looks at it."""
    with locked(root() / f"{key}.lock", deadline):
        doomed = root() / f".{key}.removed"
        (root() / key).replace(doomed)
        shutil.rmtree(doomed)


def pin(spec: str) -> object | None:
    """What `set_pin` remembered for `spec` (JSON)."""
    return _pins().get(spec)


def set_pin(spec: str, value: object, deadline: Deadline) -> None:
    """Remembers what `spec` stands for, until it is set anew. `None` forgets it."""
    with locked(root() / "pins.lock", deadline), disk_full_is_a_host_fault(root()):
        pins = {**_pins(), spec: value}
        fresh = root() / f".pins.{os.getpid()}"
        fresh.write_text(json.dumps({spec: value for spec, value in pins.items() if value is not None}, indent=1))
        fresh.replace(root() / "pins.json")


def _pins() -> dict[str, object]:
    try:
        pins = json.loads((root() / "pins.json").read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        progress.note(f"{root() / 'pins.json'} is corrupt and is ignored: {error}")
        return {}
    return pins if isinstance(pins, dict) else {}


def _load_or_report(key: str) -> Entry | None:
    try:
        return load(key)
    except CorruptEntry as error:
        progress.note(f"cache entry {root() / key} is corrupt and is made anew: {error}")
        return None


def _write_meta(stage: Path, key: str, spec: str, parts: Parts) -> None:
    meta = {
        "format": _FORMAT,
        "key": key,
        "spec": spec,
        "created": time.time(),
        "parts": asdict(parts),
        "files": dict(_sizes(stage)),
    }
    (stage / "meta.json").write_text(json.dumps(meta, indent=1))


def _sizes(path: Path) -> Iterator[tuple[str, int]]:
    """Every regular file below `path` with its size in bytes."""
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            if not file.is_symlink():
                yield str(file.relative_to(path)), file.stat().st_size


def _verify(path: Path, sizes: Mapping[str, int]) -> None:
    """Sizes, not hashes: what an interrupted copy gets wrong, and 20 ms for 4000 modules."""
    for name, size in sizes.items():
        try:
            found = os.stat(f"{path}/{name}").st_size  # noqa: PTH116 -- twice as fast as Path.stat over 4000 files
        except OSError as error:
            raise CorruptEntry(path.name, f"{name}: {error.strerror}") from error
        if found != size:
            raise CorruptEntry(path.name, f"{name} has {found} bytes, expected {size}")
