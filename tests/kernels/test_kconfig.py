"""Fragments are read strictly, and an option that did not stick is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernels import kconfig
from harness.kernels.kconfig import FRAGMENTS, Fragment, Symbol, read_config, read_fragment

_KCONFIG = """\
config MODULES
        bool "Modules"
        help
          Text that mentions
          config FAKE
          if in doubt.

source "arch/$(SRCARCH)/Kconfig"

menu "Drivers"
        depends on PCI

config DRIVER
        tristate "A driver"
        depends on MODULES && (OLD || \\
                NEW) && FLAVOUR = "plain"

endmenu

choice
        prompt "Size"
config SMALL
        bool "Small"
endchoice

config HELPER
        bool

comment "the end"
        depends on NOTHING

config AFTER
        def_bool y if MODULES

config DRIVER_MACRO
        bool "Asks the compiler"
        depends on $(cc-option,-mfoo)
        depends on $(cc-option,-mbar) && !MODULES
"""
_ARCH = """\
if X86_64
config PCI
        bool "PCI"
config TWICE
        bool "Here"
        depends on MISSING
endif
config TWICE
        bool
        depends on X86_64
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "arch/x86").mkdir(parents=True)
    (tmp_path / "Kconfig").write_text(_KCONFIG)
    (tmp_path / "arch/x86/Kconfig").write_text(_ARCH)
    return tmp_path


def _explain(tree: Path, wanted: str, got: dict[str, str]) -> str:
    """What is said about one option that was wanted and not got."""
    name, _, value = wanted.partition("=")
    with pytest.raises(UsageError, match=f"did not stick: CONFIG_{name}") as caught:
        kconfig.check([Fragment("frag", Path("frag"), {f"CONFIG_{name}": value})], _config(got), tree)
    return caught.value.evidence


def _config(options: dict[str, str]) -> dict[str, str]:
    return {f"CONFIG_{name}": value for name, value in options.items()}


def test_symbols_have_the_conditions_around_them(tree: Path) -> None:
    found = kconfig.symbols(tree)
    assert "FAKE" not in found
    assert found["DRIVER"] == Symbol([["PCI", 'MODULES && (OLD || NEW) && FLAVOUR = "plain"']], prompt=True)
    assert found["PCI"].definitions == [["X86_64"]]
    assert (found["HELPER"].definitions, found["HELPER"].prompt) == ([[]], False)
    assert found["AFTER"].definitions == [[]]


def test_met_options_are_no_error(tree: Path) -> None:
    fragment = Fragment("x", Path("x"), {"CONFIG_DRIVER": "m", "CONFIG_PCI": "y", "CONFIG_HELPER": "n"})
    kconfig.check([fragment], _config({"DRIVER": "y", "PCI": "y"}), tree)


def test_later_fragment_wins(tree: Path) -> None:
    on, off = (Fragment(value, Path(value), {"CONFIG_PCI": value}) for value in "yn")
    kconfig.check([on, off], {}, tree)
    with pytest.raises(UsageError, match="CONFIG_PCI"):
        kconfig.check([off, on], {}, tree)


def test_unmet_dependency_is_named_with_its_values(tree: Path) -> None:
    met = {"PCI": "y", "MODULES": "y", "NEW": "m", "FLAVOUR": '"plain"'}
    assert "CONFIG_DRIVER: wanted y (frag), got n: depends on PCI [PCI=n]" in _explain(
        tree, "DRIVER=y", {**met, "PCI": "n"}
    )
    assert "[MODULES=y, OLD=n, NEW=n, FLAVOUR=" in _explain(tree, "DRIVER=y", {**met, "NEW": "n"})
    assert "depends on MODULES &&" in _explain(tree, "DRIVER=y", {**met, "FLAVOUR": '"other"'})
    assert "dependencies are met" in _explain(tree, "DRIVER=y", {**met, "DRIVER": "m"})


def test_compiler_checks_are_not_blamed(tree: Path) -> None:
    explained = _explain(tree, "DRIVER_MACRO=y", {"MODULES": "y"})
    assert explained.count("depends on") == 1
    assert "[MODULES=y]" in explained


def test_one_met_definition_is_enough(tree: Path) -> None:
    assert "dependencies are met" in _explain(tree, "TWICE=y", {"X86_64": "y"})
    assert "depends on X86_64" in _explain(tree, "TWICE=y", {})


def test_option_without_prompt_and_unknown_option(tree: Path) -> None:
    assert "no prompt" in _explain(tree, "HELPER=y", {})
    assert "no such option" in _explain(tree, "NOPE=y", {})


def test_read_config(tmp_path: Path) -> None:
    path = tmp_path / ".config"
    path.write_text('CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_S="a b"\n\n')
    assert read_config(path) == {"CONFIG_A": "y", "CONFIG_S": '"a b"'}


def test_fragment_by_path(tmp_path: Path) -> None:
    path = tmp_path / "own.config"
    path.write_text("# why\nCONFIG_A=y\n# CONFIG_B is not set\n")
    fragment = read_fragment(str(path))
    assert fragment.options == {"CONFIG_A": "y", "CONFIG_B": "n"}
    assert fragment.text == "CONFIG_A=y\n# CONFIG_B is not set\n"


def test_unknown_fragment_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no kconfig fragment 'nope'") as caught:
        read_fragment("nope")
    assert "harness" in caught.value.expected


def test_line_that_is_no_option_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "own.config"
    path.write_text("CONFIG_A=y\nFOO=y\n")
    with pytest.raises(UsageError, match=r"own\.config:2: 'FOO=y'"):
        read_fragment(str(path))


@pytest.mark.parametrize("name", sorted(path.stem for path in FRAGMENTS.glob("*.config")))
def test_shipped_fragments_are_valid(name: str) -> None:
    assert read_fragment(name).options
