"""Packages of the Debian archive, without touching the host's own apt.

Every release has a private apt under the cache directory: its own sources, lists, package cache and an empty
dpkg status. Nothing needs root, and nothing is installed: packages are downloaded, checked against the signed
indices (debian-archive-keyring of the host) and unpacked with dpkg-deb.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from debian.deb822 import Packages
from debian.debian_support import Version

from harness import paths, process, progress
from harness.cache import disk_full_is_a_host_fault, locked, require_making, staged_dir
from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HostFault, UsageError

DEFAULT_MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ARCHITECTURE = "amd64"


@dataclass(frozen=True)
class Release:
    """Suites that one private apt knows together, as a machine of that release would."""

    name: str
    suites: tuple[str, ...]

    @classmethod
    def stable(cls, name: str) -> Release:
        return cls(name, (name, f"{name}-updates", f"{name}-security", f"{name}-backports"))


# In the order in which a package without a suite is looked for. Sid is asked only by name: its lists are
# large, and a kernel that changes every few days should be somebody's decision.
STABLE = (Release.stable("bookworm"), Release.stable("trixie"))
UNSTABLE = Release("unstable", ("sid", "experimental"))
RELEASES = (*STABLE, UNSTABLE)
SUITES = tuple(suite for release in RELEASES for suite in release.suites)

_FRESH_S = 24 * 3600  # lists younger than this are used as they are
_JUST_FETCHED_S = 300  # a package that is missing from lists this young does not exist


@dataclass(frozen=True)
class Package:
    """One binary package of one version, as the archive's index describes it."""

    name: str
    version: str
    suite: str
    architecture: str
    size: int  # bytes of the .deb
    sha256: str  # of the .deb
    depends: tuple[str, ...] = ()  # names; the first of each set of alternatives

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Package:
        """The package whose `dataclasses.asdict` was stored as `fields`."""
        return cls(**{**fields, "depends": tuple(fields["depends"])})

    @property
    def release(self) -> Release:
        return release_of(self.suite)

    @property
    def deb(self) -> str:
        """The file name that `apt-get download` gives: the epoch's colon is quoted."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.suite})"


@dataclass(frozen=True)
class Candidate:
    """A version of a package and the suite that has it, before its index entry is read."""

    name: str
    version: str
    suite: str

    @property
    def sort_key(self) -> Version:
        return Version(self.version)

    def __str__(self) -> str:
        return f"{self.version} ({self.suite})"


def release_of(suite: str) -> Release:
    """The release that `suite` belongs to. Raises UsageError for a suite that is not known."""
    for release in RELEASES:
        if suite in release.suites:
            return release
    raise UsageError(f"unknown Debian suite {suite!r}", expected=", ".join(SUITES))


def mirror() -> str:
    """The archive's base URL: $HARNESS_DEBIAN_MIRROR, else Debian's own."""
    return os.environ.get("HARNESS_DEBIAN_MIRROR", DEFAULT_MIRROR).rstrip("/")


class Archive:
    """The Debian archive as seen through one private apt per release, kept under `root`."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or paths.cache_dir() / "apt"
        self._debs = self._root / "archives"

    def update(self, deadline: Deadline, release: Release = STABLE[0], older_than: float = _FRESH_S) -> None:
        """Fetches the lists of `release` unless they are younger than `older_than` seconds.

        Old lists stay in use, with a note, when the network is away. Raises HostFault when there are none.
        """
        self._apt(release).update(older_than, deadline)

    def candidates(
        self, names: Iterable[str], release: Release, deadline: Deadline, older_than: float = _FRESH_S
    ) -> list[Candidate]:
        """Every version of the packages `names` in the suites of `release`, newest first."""
        self.update(deadline, release, older_than)
        found = set(self._apt(release).madison(names, deadline))
        return sorted(found, key=lambda candidate: candidate.sort_key, reverse=True)

    def names(self, pattern: re.Pattern[str], release: Release, deadline: Deadline) -> list[str]:
        """The names of packages in `release` that `pattern` matches completely."""
        self.update(deadline, release)
        return self._apt(release).names(pattern, deadline)

    def find(self, name: str, deadline: Deadline, version: str | None = None, suite: str | None = None) -> Package:
        """The newest package `name`, of exactly `version` and in `suite` where given.

        Without a suite the stable releases are asked in turn, oldest first, and the first that has it
        decides. Raises UsageError naming the versions that there are; HostFault without network and lists.
        """
        releases = (release_of(suite),) if suite else STABLE
        for older_than in (_FRESH_S, _JUST_FETCHED_S):
            seen: list[Candidate] = []
            for release in releases:
                candidates = self.candidates([name], release, deadline, older_than)
                for candidate in candidates:
                    if version in (None, candidate.version) and suite in (None, candidate.suite):
                        return self.packages([candidate], deadline)[0]
                seen += candidates
        raise _not_found(name, version, suite, seen)

    def packages(self, candidates: Sequence[Candidate], deadline: Deadline) -> list[Package]:
        """The index entries of `candidates`, which are of one release."""
        text = self._apt(release_of(candidates[0].suite)).show(candidates, deadline)
        entries = Packages.iter_paragraphs(text.splitlines(keepends=True), use_apt_pkg=False)
        by_version = {(entry["Package"], entry["Version"]): entry for entry in entries}
        return [_package(candidate, by_version[candidate.name, candidate.version]) for candidate in candidates]

    def download(self, packages: Sequence[Package], deadline: Deadline) -> list[Path]:
        """The .deb files of `packages`, in their order; those in the cache whose SHA-256 is right are kept.

        Raises HostFault when the archive cannot be reached or no longer has one of them.
        """
        missing = [package for package in packages if not self._has(package)]
        for release in RELEASES:
            wanted = [package for package in missing if package.release == release]
            if wanted:
                self._fetch(release, wanted, deadline)
        return [self._debs / package.deb for package in packages]

    def unpack(self, packages: Sequence[Package], dest: Path, deadline: Deadline) -> None:
        """Unpacks `packages` over each other into the new directory `dest`, which appears when all is there."""
        debs = self.download(packages, deadline)
        with staged_dir(dest) as stage:
            for deb in debs:
                process.run(["dpkg-deb", "--extract", deb, stage], deadline)

    def unpack_with_dependencies(
        self, names: Sequence[str], suite: str, dest: Path, deadline: Deadline
    ) -> list[Package]:
        """Unpacks `names` and all that they depend on (not what they recommend) into `dest`; returns what it took.

        Maintainer scripts are not run: good for files (programs and their libraries), not for a system.
        """
        packages = self.closure(names, suite, deadline)
        self.unpack(packages, dest, deadline)
        return packages

    def closure(self, names: Sequence[str], suite: str, deadline: Deadline) -> list[Package]:
        """What `apt-get install -t suite names` would install on a machine without any package."""
        release = release_of(suite)
        self.update(deadline, release)
        chosen = self._apt(release).simulate_install(names, suite, deadline)
        candidates = {
            (c.name, c.version): c for c in self.candidates([name for name, _ in chosen], release, deadline)
        }
        return self.packages([candidates[pair] for pair in chosen], deadline)

    def _apt(self, release: Release) -> _Apt:
        return _Apt(self._root / release.name, release)

    def _has(self, package: Package) -> bool:
        deb = self._debs / package.deb
        if not deb.is_file() or deb.stat().st_size != package.size:
            return False
        with deb.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == package.sha256

    def _fetch(self, release: Release, packages: Sequence[Package], deadline: Deadline) -> None:
        """Downloads into a directory of its own, then moves: a broken download never looks like a package."""
        megabytes = sum(package.size for package in packages) / 1e6
        require_making(packages[0].name)
        names = packages[0].name + (f" and {len(packages) - 1} more" if len(packages) > 1 else "")
        with (
            progress.task(f"download {names} ({megabytes:.0f} MB)"),
            disk_full_is_a_host_fault(self._root),
        ):
            self._debs.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download.", dir=self._root) as stage:
                self._apt(release).download(packages, Path(stage), deadline)
                for package in packages:
                    Path(stage, package.deb).replace(self._debs / package.deb)


class _Apt:
    """The apt programs with a configuration of their own in `root`."""

    def __init__(self, root: Path, release: Release) -> None:
        self._root = root
        self._release = release

    def update(self, older_than: float, deadline: Deadline) -> None:
        with self._locked(deadline):
            age = self._age()
            if age < older_than:
                return
            require_making(f"a list of what is in Debian {self._release.name}")
            self._configure(deadline)
            try:
                with progress.task(f"update the package lists of Debian {self._release.name}"):
                    self._apt(["apt-get", "update", "--error-on=any"], deadline)
            except (process.ProcessFailed, DeadlineExceeded) as error:
                if age == float("inf"):
                    raise _unreachable(error) from error
                progress.note(
                    f"{mirror()} cannot be reached: using package lists that are {age / 3600:.0f} hours old"
                )
                return
            self._stamp.write_text(self._origin)

    def names(self, pattern: re.Pattern[str], deadline: Deadline) -> list[str]:
        names = self._run(["apt-cache", "pkgnames"], deadline).split()
        return sorted(name for name in names if pattern.fullmatch(name))

    def madison(self, names: Iterable[str], deadline: Deadline) -> Iterator[Candidate]:
        argv = ["apt-cache", "madison", *names]
        if len(argv) == 2:
            return
        for line in self._run(argv, deadline).splitlines():
            fields = [field.strip() for field in line.split("|")]
            if len(fields) == 3 and fields[2].endswith(" Packages"):
                # "http://deb.debian.org/debian bookworm/main amd64 Packages"
                yield Candidate(fields[0], fields[1], fields[2].split()[1].partition("/")[0])

    def show(self, candidates: Sequence[Candidate], deadline: Deadline) -> str:
        return self._run(["apt-cache", "show", *(f"{one.name}={one.version}" for one in candidates)], deadline)

    def simulate_install(self, names: Sequence[str], suite: str, deadline: Deadline) -> list[tuple[str, str]]:
        argv = ["apt-get", "--simulate", "--yes", "--no-install-recommends", f"--target-release={suite}", "install"]
        try:
            output = self._run([*argv, *names], deadline)
        except process.ProcessFailed as error:
            raise UsageError(f"Debian {suite} cannot provide {' '.join(names)}", evidence=error.evidence) from error
        # "Inst kmod (30+20221128-1 Debian:12.15/oldstable [amd64])"
        return re.findall(r"^Inst (\S+) \((\S+) ", output, re.MULTILINE)

    def download(self, packages: Sequence[Package], into: Path, deadline: Deadline) -> None:
        specs = [f"{package.name}={package.version}" for package in packages]
        try:
            self._run(["apt-get", "download", *specs], deadline, cwd=into)
        except process.ProcessFailed as error:
            raise _unreachable(error) from error

    @property
    def _config(self) -> Path:
        return self._root / "apt.conf"

    @property
    def _stamp(self) -> Path:
        """Its mtime is when the lists were fetched. Apt's own lists carry the server's times."""
        return self._root / "updated"

    @property
    def _origin(self) -> str:
        """What the lists are good for: another mirror has other ones, and apt.conf names its folder absolutely."""
        return f"{mirror()} {self._root}"

    def _age(self) -> float:
        """Seconds since the lists were fetched; infinite when they never were."""
        try:
            if self._stamp.read_text() != self._origin:
                return float("inf")
            return time.time() - self._stamp.stat().st_mtime
        except FileNotFoundError:
            return float("inf")

    def _locked(self, deadline: Deadline) -> AbstractContextManager[None]:
        """Apt's readers fail while another process replaces the lists or builds the package cache."""
        return locked(self._root.with_suffix(".lock"), deadline)

    def _run(self, argv: Sequence[str], deadline: Deadline, cwd: Path | None = None) -> str:
        with self._locked(deadline):
            return self._apt(argv, deadline, cwd)

    def _apt(self, argv: Sequence[str], deadline: Deadline, cwd: Path | None = None) -> str:
        return process.run(argv, deadline, cwd=cwd, env={"APT_CONFIG": str(self._config), "LC_ALL": "C"})

    def _configure(self, deadline: Deadline) -> None:
        """Writes the private configuration; raises HostFault when the host cannot check Debian's signatures."""
        if shutil.which("apt-get") is None or not KEYRING.is_file():
            raise HostFault(
                "this host cannot read the Debian archive",
                expected=f"apt-get and {KEYRING}",
                hint="apt-get install apt debian-archive-keyring, or give kernels as tree:, git: or image:",
            )
        for folder in _FOLDERS:
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        (self._root / "status").touch()
        (self._root / "etc/apt/sources.list").write_text("".join(map(_source_line, self._release.suites)))
        self._config.write_text(_CONFIG.format(root=self._root, arch=ARCHITECTURE) + host_network_settings(deadline))


# Those under etc/apt stay empty: apt warns, on the output that is parsed, when they are missing.
_FOLDERS = (
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "etc/apt/sources.list.d",
    "lib/lists/partial",
    "cache/archives/partial",
)

# Dir::Etc being relative to Dir keeps the host's apt.conf.d out: its hooks would run, and its pins would choose.
_CONFIG = """\
Dir "{root}/";
Dir::Etc "etc/apt/";
Dir::State "lib/";
Dir::State::Lists "lists/";
Dir::State::Status "{root}/status";
Dir::Cache "cache/";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "2";
Acquire::http::Timeout "20";
"""

# How this host reaches a mirror (proxies), and whether its administrator accepts a frozen one.
_HOST_SETTINGS = ("Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Check-Date")


def host_network_settings(deadline: Deadline) -> str:
    """The host's own settings of that kind, as apt.conf has them."""
    lines = process.run(["apt-config", "dump"], deadline).splitlines()
    return "\n".join(line for line in lines if line.startswith(_HOST_SETTINGS)) + "\n"


def _package(candidate: Candidate, entry: Packages) -> Package:
    relations: Mapping[str, list[list[Mapping[str, str]]]] = entry.relations
    return Package(
        name=candidate.name,
        version=candidate.version,
        suite=candidate.suite,
        architecture=entry["Architecture"],
        size=int(entry["Size"]),
        sha256=entry["SHA256"],
        depends=tuple(first[0]["name"] for field in ("depends", "pre-depends") for first in relations[field]),
    )


def _source_line(suite: str) -> str:
    url = f"{mirror()}-security" if suite.endswith("-security") else mirror()
    return f"deb [arch={ARCHITECTURE} signed-by={KEYRING}] {url} {suite} main\n"


def _unreachable(error: HostFault) -> HostFault:
    return HostFault(
        f"cannot fetch from the Debian archive at {mirror()}",
        hint="check the network, or name another mirror in $HARNESS_DEBIAN_MIRROR; what is in the cache already "
        "is used without network (`harness kernels list`)",
        evidence="\n".join(line for line in error.evidence.splitlines() if line.startswith("E: ")),
    )


def _not_found(name: str, version: str | None, suite: str | None, seen: list[Candidate]) -> UsageError:
    wanted = " ".join(word for word in (name, version, f"in {suite}" if suite else "") if word)
    return UsageError(
        f"Debian has no package {wanted}",
        expected="one of: " + ", ".join(map(str, seen)) if seen else f"a package of {suite or 'bookworm or trixie'}",
    )
