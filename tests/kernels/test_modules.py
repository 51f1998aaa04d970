"""KVM modules rebuilt for a stock kernel."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import DoesNotBuild, HostFault, UsageError
from harness.kernels import BuildOptions, Kernel, resolve, with_own_modules
from harness.kernels.modules import compiler_errors, make_failed
from harness.kernels.own_modules import OWN_MODULES
from harness.process import ProcessFailed

# A line that every kernel since 4.20 has, in a function that all of kvm_amd's life goes through.
_LOUD = """\
--- a/arch/x86/kvm/svm/svm.c
+++ b/arch/x86/kvm/svm/svm.c
@@ -1,3 +1,3 @@
 \tif (nested) {
-\t\tpr_info("Nested Virtualization enabled\\n");
+\t\tpr_info("Nested Virtualization enabled by a patch\\n");
 \t\tkvm_enable_efer_bits(EFER_SVME | EFER_LMSLE);
"""


def test_errors_are_picked_out_of_a_parallel_build() -> None:
    output = "  CC a.o\na.c:3:5: error: no such thing\n    3 | thing\n      | ^\n  CC b.o\n" + "make: ***\n" * 50
    assert compiler_errors(output) == "a.c:3:5: error: no such thing\n    3 | thing\n      | ^"
    assert compiler_errors("only\nwords") == "only\nwords"


@pytest.mark.parametrize(
    ("output", "status", "blamed"),
    [
        ("a.c:3:5: error: no such thing\nmake[3]: *** [a.o] Error 1\n", 2, DoesNotBuild),
        ("a.c:3:5: error: 'Killed' undeclared\nmake[3]: *** [a.o] Error 1\n", 2, DoesNotBuild),
        ("gcc: fatal error: Killed signal terminated program cc1\nmake[3]: *** [a.o] Error 1\n", 2, HostFault),
        ("collect2: fatal error: ld terminated with signal 9 [Killed]\n", 2, HostFault),
        ("make[3]: *** [scripts/Makefile.build:229: a.o] Killed\n", 2, HostFault),
        ("/tmp/ccAbc.s: Assembler messages:\nFatal error: can't close a.o: No space left on device\n", 2, HostFault),
        ("/bin/sh: 1: flex: not found\nmake[1]: *** [lexer.lex.c] Error 127\n", 2, HostFault),
        ("/bin/sh: 1: pahole: not found\nmake[1]: *** [a.o] Error 1\n", 2, DoesNotBuild),
        ("", -9, HostFault),
    ],
)
def test_what_the_host_lacks_is_not_the_source_s_fault(output: str, status: int, blamed: type[Exception]) -> None:
    error = make_failed("x does not compile", ProcessFailed(["make"], status, output))
    assert type(error) is blamed


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """loud.patch is good; each of the others is wrong in the way that its name says."""
    folder = tmp_path_factory.mktemp("patches")
    (folder / "loud.patch").write_text(_LOUD)
    (folder / "stale.patch").write_text(
        _LOUD.replace("if (nested)", "if (stale)").replace("kvm_enable", "stale_enable")
    )
    (folder / "broken.patch").write_text(_LOUD.replace("by a patch\\n", 'by a patch" BROKEN "\\n'))
    (folder / "outside.patch").write_text(_LOUD.replace("arch/x86/kvm/svm/svm.c", "arch/x86/kernel/reboot.c"))
    (folder / "docs.patch").write_text(_LOUD.replace("arch/x86/kvm/svm/svm.c", "Documentation/virt/kvm/x.rst"))
    return folder


def _build(patch: Path | None, deadline: Deadline) -> Kernel:
    return resolve("debian:6.12", BuildOptions(patches=(patch,) if patch else (), modules_only="kvm"), deadline)


@pytest.mark.network
@pytest.mark.parametrize("name", ["outside", "docs"])
def test_patch_that_cannot_matter_is_refused(patches: Path, deadline: Deadline, name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}\.patch cannot be tried with modules_only") as caught:
        _build(patches / f"{name}.patch", deadline)
    assert "arch/x86/kvm" in caught.value.expected


@pytest.mark.network
@pytest.mark.slow
def test_modules_follow_their_patch(patches: Path) -> None:
    """All of it in one test, since the first build takes most of a minute."""
    deadline = Deadline.after(900, "builds of the KVM modules")
    loud = _build(patches / "loud.patch", deadline)
    assert set(loud.overlay) >= {"kvm", "kvm_amd", "kvm_intel"}
    assert b"enabled by a patch" in loud.overlay["kvm_amd"].read_bytes()
    magic = subprocess.run(
        ["/sbin/modinfo", "-F", "vermagic", loud.overlay["kvm_amd"]], capture_output=True, text=True, check=True
    ).stdout
    assert magic.split()[0] == loud.release

    with pytest.raises(UsageError, match=r"stale\.patch does not apply: arch/x86/kvm/svm/svm\.c, hunk 1"):
        _build(patches / "stale.patch", deadline)
    with pytest.raises(UsageError, match=r"do not compile with .*broken\.patch") as caught:
        _build(patches / "broken.patch", deadline)
    assert "BROKEN" in caught.value.evidence

    stock = _build(None, deadline)
    assert stock.key != loud.key
    assert stock.modules == loud.modules
    assert b"enabled by a patch" not in stock.overlay["kvm_amd"].read_bytes()


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("version", ["6.1", "6.12", "7.3"])
def test_own_modules_are_built_against_the_headers_of_every_kernel(version: str, deadline: Deadline) -> None:
    stock = resolve(f"debian:{version}", BuildOptions(), deadline)
    names = [module.name for module in OWN_MODULES if not module.needs and module.suits(stock.version, {})]
    kernel = with_own_modules(stock, [*(module.name for module in OWN_MODULES), "kvm"], deadline)
    assert kernel.key != stock.key
    assert sorted(kernel.overlay) == sorted(names)
    magic = ["/sbin/modinfo", "-F", "vermagic", *map(str, kernel.overlay.values())]
    found = subprocess.run(magic, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in found] == [stock.release] * len(names)
    assert with_own_modules(stock, ["kvm", "tdx_driver"], deadline) == stock
