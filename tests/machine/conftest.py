"""One guest for all tests of this folder that can leave it alive; whoever finds it broken boots it again."""

from collections.abc import Iterator

import pytest

from harness.machine.argv import MachineSpec
from harness.machine.state import State
from tests import guests
from tests.guests import Guest

SPEC = MachineSpec(cpus=2, max_cpus=3, cmdline="quiet")


class Keeper:
    """The guest in use, replaced once its QEMU is gone."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._guest: Guest | None = None

    def guest(self) -> Guest:
        if self._guest is None or self._guest.machine.state in (State.GONE, State.STOPPED):
            self.close()
            self._guest = guests.make(self._folders.mktemp("machine"), SPEC)
        if not self._guest.answers:
            self._guest.boot()
        return self._guest

    def close(self) -> None:
        if self._guest is not None:
            self._guest.shell.close()
            self._guest.machine.close()


@pytest.fixture(scope="session")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    keeper = Keeper(tmp_path_factory)
    yield keeper
    keeper.close()


@pytest.fixture
def guest(keeper: Keeper) -> Guest:
    return keeper.guest()
