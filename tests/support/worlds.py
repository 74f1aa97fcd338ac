"""Worlds that many tests share: built once in a run, whichever process comes first, and copied by all who want one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from sn37.devnet.building import build
from sn37.devnet.running import open_world, running
from sn37.pipeline import read_pipeline, run_once


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first process of this run makes, for all of them to copy."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            make(folder.with_suffix(".work"))
            folder.with_suffix(".work").rename(folder)
    return folder


def _play(folder: Path, built: Path) -> None:
    shutil.copytree(built, folder / "world")
    with running(open_world(folder / "world")) as world:
        pipeline = read_pipeline(world.write_pipeline(world.validators[0], folder))
        for _ in range(2):
            world.next_epoch()
            run_once(pipeline)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world whose hub is stopped, to be copied."""

    def make(root: Path) -> None:
        with running(build(root)):
            pass

    return once(tmp_path_factory, "built-world", make)


@pytest.fixture(scope="session")
def played(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with such a `world` and two epochs of validator-1 in `validator/records`, to be copied."""
    return once(tmp_path_factory, "played-world", lambda folder: _play(folder, built))
