"""The folder of a training: whose it is, what is trained in it, from where it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from sn37.errors import ConfigError
from sn37.miner.hyperparameters import Hyperparameters
from sn37.records.codec import read, write

__all__ = ["Plan", "agreed", "newest_checkpoint", "owned"]


@dataclass(frozen=True)
class Plan:
    """What is trained, from what, how: whatever decides the outcome."""

    base: str
    """The model that it starts from, as it was named."""
    base_hash: str
    """Its content hash."""
    competition: str
    """The competition's digest."""
    hyperparameters: Hyperparameters
    """How."""
    as_of: datetime | None
    """As of when data are read; None: not decided yet."""


def agreed(out: Path, asked: Plan) -> Plan:
    """The plan of the training in that folder. Raises ConfigError where it is not the one that is asked for."""
    found = read(Plan, out / "training.json")
    if found is None:
        if any(path.name != "start.json" and not path.name.startswith(".") for path in out.iterdir()):
            raise ConfigError(f"{out} is not empty and holds no training; choose another folder")
        found = replace(asked, as_of=asked.as_of or datetime.now(UTC))
        write(out / "training.json", found)
    differing = [name for name, value in vars(asked).items() if value not in (None, getattr(found, name))]
    if differing:
        raise ConfigError(f"{out} holds a training of another {differing[0]}; choose another folder, or remove it")
    return found


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest that is whole: transformers writes the state last."""
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True):
        with suppress(OSError, ValueError):
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            return path
    return None


@contextmanager
def owned(out: Path) -> Iterator[None]:
    """Keep the folder to this process."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(out / ".lock", blocking=False).acquire()
    except Timeout:
        raise ConfigError(f"another process trains in {out}; wait for it, or choose another folder") from None
    with held:
        yield
