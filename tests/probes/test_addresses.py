"""Function names with the compiler's suffixes, on lines of Debian's kernels and on made-up ones."""

from __future__ import annotations

import pytest

from harness.probes.addresses import NoFunction, Place, SymbolTable, base_name

TABLE = SymbolTable.parse(
    """\
00000000000351c0 A pcpu_hot
ffffffff81000000 T _text
ffffffff811a4e40 t do_init_module
ffffffff82e61984 D system_state
ffffffff81000100 t only_copy.isra.0
ffffffff81000200 T with_copy
ffffffff81000300 t with_copy.constprop.0
ffffffff81000380 t with_copy.constprop.0.isra.1
ffffffff81000400 t with_copy.cold
ffffffff81000500 t only_part.part.0
ffffffff81000600 t twice
ffffffff81000700 t twice
ffffffffc0000000 t kvm_init	[kvm]
ffffffff81000800 D a_variable
"""
)


def test_a_function_is_found_under_its_own_name() -> None:
    assert TABLE.function("do_init_module") == (Place(0xFFFFFFFF811A4E40, exact=True),)


def test_copies_stand_for_the_function() -> None:
    assert TABLE.function("only_copy") == (Place(0xFFFFFFFF81000100, exact=False),)
    assert [(place.address & 0xFFF, place.exact) for place in TABLE.function("with_copy")] == [
        (0x200, True),
        (0x300, False),
        (0x380, False),
    ]


def test_a_copy_can_be_named() -> None:
    assert TABLE.function("with_copy.constprop.0") == (Place(0xFFFFFFFF81000300, exact=True),)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("only_part", "of only_part there is only only_part.part.0"),
        ("twice", "there are 2 functions twice"),
        ("a_variable", "there is no function a_variable"),
        ("kvm_init", "there is no function kvm_init"),
        ("nothing", "there is no function nothing"),
    ],
)
def test_what_is_refused_says_why(name: str, why: str) -> None:
    with pytest.raises(NoFunction, match=why):
        TABLE.function(name)


def test_variables() -> None:
    assert TABLE.variable("system_state") == 0xFFFFFFFF82E61984
    assert TABLE.variable("pcpu_hot") == 0x351C0
    assert TABLE.variable("twice") is None
    assert TABLE.variable("nothing") is None


def test_base_names() -> None:
    assert [base_name(name) for name in ("f", "f.isra.0", "f.constprop.0.isra.1", "f.cold", "f.part.0")] == [
        "f",
        "f",
        "f",
        "f.cold",
        "f.part.0",
    ]
