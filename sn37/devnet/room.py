"""The folder of a world in the making: marked, held by one process, and empty of what a cut-off attempt left."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sn37.devnet.hub_process import HubProcess
from sn37.devnet.wandb_process import WandbProcess
from sn37.errors import ConfigError

__all__ = ["room_in"]

_MARK = ".sn37-world"


@contextmanager
def room_in(root: Path) -> Iterator[None]:
    """Keep the folder to ourselves, marked and otherwise empty; what a cut-off attempt left there goes."""
    mark = root / _MARK
    if root.is_dir() and any(root.iterdir()) and not mark.is_file():
        raise ConfigError(f"{root} is not empty and holds no world; choose another folder")
    root.mkdir(parents=True, exist_ok=True)
    with mark.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"another process is building a world in {root}; wait for it") from None
        if (root / "world.json").is_file():
            raise ConfigError(f"there is a world in {root} already; open it, or choose another folder")
        HubProcess(root / "hub", root / "chain.sqlite").stop()
        WandbProcess(root / "wandb", root / "wallets", root / "chain.sqlite").stop()
        for left in root.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left != mark:
                left.unlink()
        yield
