"""One guest for the tests of this folder."""

from collections.abc import Iterator

import pytest

from harness.machine.argv import MachineSpec
from tests import guests
from tests.guests import Guest


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    guest = guests.make(tmp_path_factory.mktemp("guest"), MachineSpec(cpus=2, cmdline="quiet"))
    with guest.machine:
        guest.boot()
        yield guest
        guest.shell.close()


@pytest.fixture
def guest(booted: Guest) -> Guest:
    """The guest, booted again when the test before left it without SSH."""
    if not booted.answers:
        booted.boot()
    return booted
