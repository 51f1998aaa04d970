"""What is read off a diff."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.kernels.diff import parse
from harness.paths import PROJECT
from harness.series.touched import Touched, touched

_HEAD = (
    "diff --git a/virt/kvm/kvm_main.c b/virt/kvm/kvm_main.c\n--- a/virt/kvm/kvm_main.c\n+++ b/virt/kvm/kvm_main.c\n"
)


def touches(hunk: str, head: str = _HEAD) -> Touched:
    return touched([parse(Path("x.patch"), "", head + hunk)])


def test_the_function_of_the_hunk_s_head_even_when_it_is_cut_short() -> None:
    found = touches(
        "@@ -1,2 +1,1 @@ static int kvm_enable_virtualization(voi\n \tr = 0;\n-\tregister_syscore_ops(&ops);\n"
    )
    assert found.functions == {"kvm_enable_virtualization"}
    assert found.names == {"register_syscore_ops"}


def test_functions_within_a_hunk() -> None:
    hunk = """\
@@ -1,9 +1,9 @@ static void before(void)
 \tint unchanged;
 }

 static struct syscore_ops kvm_syscore_ops = {
-\t.shutdown = kvm_shutdown,
 };

 __visible bool kvm_rebooting;
 int kvm_init(unsigned size,
 \t     struct module *module)
 {
+\treturn 0;
 }
+
+static void __new(void)
+{
+}
"""
    assert touches(hunk).functions == {"kvm_syscore_ops", "kvm_init", "__new"}


def test_comments_and_strings_are_no_names() -> None:
    lines = ("/* kvm_shutdown() */", " * kvm_suspend() runs", 'pr_err("kvm_resume");', "// kvm_exit")
    hunk = "@@ -1,3 +1,4 @@ int f(void)\n" + "".join(f"+\t{line}\n" for line in lines)
    assert touches(hunk).names == {"pr_err"}


def test_between_functions_a_line_belongs_to_none() -> None:
    hunk = "@@ -1,3 +1,4 @@ int f(void)\n }\n+module_init(kvm_begin);\n \n"
    assert touches(hunk) == Touched(
        frozenset({"virt/kvm/kvm_main.c"}), frozenset(), frozenset({"module_init", "kvm_begin"})
    )


def test_documentation_has_no_functions() -> None:
    found = touches("@@ -1,1 +1,2 @@ kvm_init(x)\n+kvm_exit()\n", _HEAD.replace("kvm_main.c", "locking.rst"))
    assert found == Touched(frozenset({"virt/kvm/locking.rst"}), frozenset(), frozenset())


@pytest.mark.parametrize(
    ("mutant", "functions"),
    [
        ("7.3/unwind-dropped", {"kvm_enable_virtualization"}),
        ("6.12/emergency-skips-vmclear", {"vmx_emergency_disable_virtualization_cpu"}),
        ("6.12/no-teardown-callback", {"kvm_enable_virtualization", "kvm_offline_cpu"}),
    ],
)
def test_of_real_patches(mutant: str, functions: set[str]) -> None:
    path = PROJECT / f"patches/mutants/{mutant}.patch"
    assert touched([parse(path, "", path.read_text())]).functions == functions
