"""What each miner of the small world does: honest work, and every kind of cheat.

The honest ones take `sn37.miner`'s way from training to the chain. The cheaters go past its checks here, openly,
with the same clients: what they publish is what validators have to see through.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.devnet.world import Miner, Role, World
from sn37.miner import publish
from sn37.submission import ModelId, content_hash, secure_hash

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import Hub

__all__ = ["MINERS", "model_folder", "submit"]

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


def model_folder(world: World, steps: int) -> Path:
    """Where the model that was trained for so many steps lies."""
    return world.root / "models" / f"{steps}-steps"


def submit(world: World, miner: Miner) -> None:
    """Let one miner publish and commit what its role demands."""
    with world.subnet(miner.name) as subnet:
        _ROLES[miner.role](world, miner, subnet, world.hub(miner.name))


def _leader(world: World) -> Miner:
    return next(miner for miner in world.miners if miner.name == _LEADER)


def _honest(world: World, miner: Miner, subnet: Subnet, hub: Hub) -> None:
    publish(model_folder(world, miner.steps), miner.repo, world.competition, hub, subnet)


def _copy(world: World, miner: Miner, subnet: Subnet, hub: Hub) -> None:
    """Fetch what the leader made public, as anybody may, and publish it under another name."""
    leader = _leader(world)
    _, text = subnet.committed(leader.hotkey) or (0, "")
    with hub.fetch_model(ModelId.from_text(text), leader.hotkey, world.competition.constraints) as stolen:
        publish(stolen.folder, miner.repo, world.competition, hub, subnet)


def _pickle(world: World, miner: Miner, subnet: Subnet, hub: Hub) -> None:
    revision = hub.publish_file(miner.repo, "pytorch_model.bin", pickle.dumps({"weight": [0.0] * 64}), private=True)
    _commit_to_leaders_files(world, miner, subnet, revision)
    hub.make_public(miner.repo)


def _mismatch(world: World, miner: Miner, subnet: Subnet, hub: Hub) -> None:
    revision = hub.publish(model_folder(world, miner.steps), miner.repo, private=True)
    _commit_to_leaders_files(world, miner, subnet, revision)
    hub.make_public(miner.repo)


def _commit_to_leaders_files(world: World, miner: Miner, subnet: Subnet, revision: str) -> None:
    """Commit to what the leader's files are, whatever the repo holds."""
    namespace, _, name = miner.repo.partition("/")
    content = content_hash(model_folder(world, _leader(world).steps))
    model = ModelId(namespace, name, revision, secure_hash(content, miner.hotkey), world.competition.id)
    subnet.commit(model.to_text())


_ROLES: Mapping[Role, Callable[[World, Miner, Subnet, Hub], None]] = {
    "honest": _honest,
    "copy": _copy,
    "pickle": _pickle,
    "mismatch": _mismatch,
    "late": _honest,
}
