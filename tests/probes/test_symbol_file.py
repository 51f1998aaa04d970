"""Symbols as an ELF file, read back by pyelftools and by gdb."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from harness.errors import HostFault
from harness.probes.addresses import SymbolTable
from harness.probes.symbol_file import elf, symbol_file

MAP = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000100 T machine_restart
ffffffff81000140 t svm_enable.isra.0
ffffffff81002000 T _etext
ffffffff81003000 D init_task
ffffffff81004000 B _end
"""


def test_functions_and_variables_have_their_addresses_kinds_and_sizes() -> None:
    table = ELFFile(io.BytesIO(elf(SymbolTable.parse(MAP)))).get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    found = {s.name: (s["st_value"], s["st_info"]["type"], s["st_size"], s["st_shndx"]) for s in table.iter_symbols()}
    assert found["machine_restart"] == (0xFFFFFFFF81000100, "STT_FUNC", 0x40, 1)
    assert found["svm_enable.isra.0"][1:] == ("STT_FUNC", 0x1EC0, 1)
    assert found["init_task"] == (0xFFFFFFFF81003000, "STT_OBJECT", 0x1000, 2)
    assert found["fixed_percpu_data"][3] == "SHN_ABS"


def test_a_table_that_does_not_say_where_the_kernel_is_is_refused() -> None:
    with pytest.raises(HostFault, match="where it begins and ends"):
        elf(SymbolTable.parse(MAP.replace("_etext", "something")))


@pytest.mark.skipif(shutil.which("gdb") is None, reason="there is no gdb here")
def test_gdb_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    path = symbol_file(SymbolTable.parse(MAP))
    assert symbol_file(SymbolTable.parse(MAP)) == path
    asked = ["gdb", "-nx", "-batch", "-ex", "info symbol 0xffffffff81000110", "-ex", "p &init_task", str(path)]
    told = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "machine_restart + 16" in told
    assert "0xffffffff81003000 <init_task>" in told
