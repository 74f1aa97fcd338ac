"""What the notebooks are run on: a small world, two epochs of its validator-1, and the smallest subnet of all."""

import shutil

import pytest
from small import executor, module_small
from worlds import built, played

from sn37.devnet.running import open_world, running
from sn37.records.epochs import Records

__all__ = ["built", "executor", "module_small", "played"]


@pytest.fixture(scope="session")
def home(played, tmp_path_factory):
    """A folder of this process, with a `world` and the records of its validator-1 in `validator/records`."""
    return shutil.copytree(played, tmp_path_factory.mktemp("notebooks") / "home")


@pytest.fixture(scope="session")
def world(home):
    """The world, up, shared by all tests of notebooks: take part in it, but play its past epochs no more."""
    with running(open_world(home / "world")) as world:
        yield world


@pytest.fixture(scope="session")
def world_records(home):
    """The two decided epochs of validator-1."""
    return Records(home / "validator" / "records")
