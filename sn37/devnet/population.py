"""Who lives in the small world, and what each of its miners does: honest work, and every kind of cheat.

The honest ones take `sn37.miner`'s way from training to the chain. The cheaters go past its checks here, openly,
with the same clients: what they publish is what validators have to see through.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sn37.competition import Competition
from sn37.miner import publish
from sn37.submission import ModelId, content_hash, secure_hash

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import Hub

__all__ = ["MINERS", "STAKES", "Miner", "Role", "Validator", "submit"]

Role = Literal["honest", "copy", "pickle", "mismatch", "late"]

STAKES = {"validator-1": 500_000.0, "validator-2": 300_000.0}
"""The validators' names and stakes, in TAO."""


@dataclass(frozen=True)
class Validator:
    """A validator of the world. name: also of its wallet, whose hotkey is called `default`."""

    name: str
    uid: int
    hotkey: str
    stake: float


@dataclass(frozen=True)
class Miner:
    """A miner of the world. steps: how long its model was trained; repo: where it publishes; story: for people."""

    name: str
    uid: int
    hotkey: str
    role: Role
    steps: int
    story: str

    @property
    def repo(self) -> str:
        return f"{self.name}/tiny-llama"


MINERS: tuple[tuple[str, Role, int, str], ...] = (
    ("miner-1", "honest", 40, "trained for 40 steps"),
    ("miner-2", "honest", 75, "trained for 75 steps"),
    ("miner-3", "honest", 120, "trained for 120 steps"),
    ("miner-4", "copy", 120, "copied miner-3's files into a repo of its own"),
    ("miner-5", "pickle", 0, "its repo holds a pickle and nothing else"),
    ("miner-6", "mismatch", 75, "committed to miner-3's files, published others"),
    ("miner-7", "late", 95, "trained for 95 steps, committed too late for the first epoch"),
)
"""(name, role, training steps, story) in the order in which they commit."""

_LEADER = "miner-3"


@dataclass(frozen=True)
class Place:
    """Where the miners act. models: training steps -> folder; subnet, hub: of a participant, by its name."""

    competition: Competition
    miners: tuple[Miner, ...]
    models: Mapping[int, Path]
    subnet: Callable[[str], Subnet]
    hub: Callable[[str], Hub]

    @property
    def leader(self) -> Miner:
        return next(miner for miner in self.miners if miner.name == _LEADER)


def submit(place: Place, miner: Miner) -> None:
    """Let one miner publish and commit what its role demands."""
    with place.subnet(miner.name) as subnet:
        _WAYS[miner.role](place, miner, subnet, place.hub(miner.name))


def _honest(place: Place, miner: Miner, subnet: Subnet, hub: Hub) -> None:
    publish(place.models[miner.steps], miner.repo, place.competition, hub, subnet)


def _copy(place: Place, miner: Miner, subnet: Subnet, hub: Hub) -> None:
    """Fetch what the leader made public, as anybody may, and publish it under another name."""
    _, text = subnet.committed(place.leader.hotkey) or (0, "")
    with hub.fetch_model(ModelId.from_text(text), place.leader.hotkey, place.competition.constraints) as stolen:
        publish(stolen.folder, miner.repo, place.competition, hub, subnet)


def _pickle(place: Place, miner: Miner, subnet: Subnet, hub: Hub) -> None:
    revision = hub.publish_file(miner.repo, "pytorch_model.bin", pickle.dumps({"weight": [0.0] * 64}), private=True)
    _commit(place, miner, subnet, revision, content_hash(place.models[place.leader.steps]))
    hub.make_public(miner.repo)


def _mismatch(place: Place, miner: Miner, subnet: Subnet, hub: Hub) -> None:
    revision = hub.publish(place.models[miner.steps], miner.repo, private=True)
    _commit(place, miner, subnet, revision, content_hash(place.models[place.leader.steps]))
    hub.make_public(miner.repo)


def _commit(place: Place, miner: Miner, subnet: Subnet, revision: str, content: str) -> None:
    """Commit to that content, whatever the repo holds."""
    namespace, _, name = miner.repo.partition("/")
    model = ModelId(namespace, name, revision, secure_hash(content, miner.hotkey), place.competition.id)
    subnet.commit(model.to_text())


_WAYS: Mapping[Role, Callable[[Place, Miner, Subnet, Hub], None]] = {
    "honest": _honest,
    "copy": _copy,
    "pickle": _pickle,
    "mismatch": _mismatch,
    "late": _honest,
}
