from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import paramiko
import pytest

from harness.images.keys import make_keys, run_overlay
from tests.images.test_cpio import unpacked


def test_private_keys_are_private(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (keys.client, keys.host)} == {0o600}


def test_client_key_is_what_the_guest_is_told_to_accept(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    assert keys.authorized_key == f"ssh-ed25519 {keys.client_key().get_base64()}"
    derived = subprocess.run(["ssh-keygen", "-y", "-f", keys.client], capture_output=True, text=True, check=True)
    assert derived.stdout.split()[:2] == keys.authorized_key.split()


def test_each_run_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a, b = make_keys(tmp_path / "a"), make_keys(tmp_path / "b")
    assert a.authorized_key != b.authorized_key
    assert a.host_key != b.host_key


def test_keys_of_a_run_are_never_overwritten(tmp_path: Path) -> None:
    make_keys(tmp_path)
    with pytest.raises(FileExistsError):
        make_keys(tmp_path)


def test_overlay_puts_them_where_dropbear_looks(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    root = tmp_path / "root"
    root.mkdir()
    unpacked(run_overlay(keys), root)
    assert (root / "etc/dropbear/host_ed25519").read_bytes() == keys.host.read_bytes()
    assert (root / "root/.ssh/authorized_keys").read_text() == keys.authorized_key + "\n"
    # dropbear refuses keys that others could have written.
    for path in ("root", "root/.ssh"):
        assert stat.S_IMODE((root / path).stat().st_mode) == 0o700


def test_host_key_is_a_paramiko_key(tmp_path: Path) -> None:
    assert isinstance(make_keys(tmp_path).host_key, paramiko.Ed25519Key)


def test_a_folder_with_spaces_is_one_file_for_ssh(tmp_path: Path) -> None:
    """`none` must stand alone among known hosts: ssh refuses a list with it, as which it takes the words unquoted."""
    folder = tmp_path / "none of these"
    folder.mkdir()
    ssh = make_keys(folder).ssh_command(22)
    asked = [word.replace(f"{tmp_path}/", "") for word in ssh]
    said = subprocess.run([asked[0], "-G", *asked[1:]], capture_output=True, text=True, check=True)
    assert "userknownhostsfile none of these/known_hosts" in said.stdout
