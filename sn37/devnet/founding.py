"""How a small world comes to be: keys, neurons, data, models, submissions, in that order."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.devnet import training
from sn37.devnet.datasets import Dataset
from sn37.devnet.population import MINERS, STAKES, Miner, Place, Validator, submit

if TYPE_CHECKING:
    from sn37.devnet.world import World
    from sn37.hub import Hub

__all__ = [
    "BLOCKS_BETWEEN_COMMITMENTS",
    "CURATOR",
    "START_BLOCK",
    "found",
    "give_tokens",
    "new_wallet",
    "publish_dataset",
    "publish_tokenizer",
    "settle_validators",
]

START_BLOCK = 5_200_000

CURATOR = "devnet"
"""The hub's user who owns the tokenizer and the datasets."""

BLOCKS_BETWEEN_COMMITMENTS = 5
_LATE_BLOCKS = 200
"""The late miner commits so many blocks before the first epoch: in time for the second."""

Tell = Callable[[str], None]


def found(world: World, port: int, tell: Tell) -> None:
    """Fill an empty world; its description is written last, and makes it whole."""
    tell("making keys, registering two validators and seven miners")
    give_tokens(world.root / "hub", [CURATOR, *(name for name, *_ in MINERS)])
    _settle(world)
    world.start_hub(port)
    tell("collecting texts and questions, training a tokenizer")
    tables = training.data()
    tokenizer = training.tokenizer(tables)
    _publish_data(world, tables, tokenizer)
    place = _place(world)
    most = max(place.models)
    tell(f"training a model for {most} steps")
    for folder in training.train_models(world.competition, tables, tokenizer, place.models):
        tell(f"saved it after {folder.name.partition('-')[0]} of {most} steps")
    for miner in world.miners:
        if miner.role == "late":
            world.chain.advance_to(_first_epoch(world) - _LATE_BLOCKS)
        tell(f"{miner.name} publishes and commits")
        submit(place, miner)
        world.chain.advance(BLOCKS_BETWEEN_COMMITMENTS)
    world.describe()


def _first_epoch(world: World) -> int:
    """The first sync block that picks up what is committed by now."""
    return world.clock.next_sync_block(world.chain.head() + world.competition.constraints.delay_blocks)


def give_tokens(hub: Path, users: list[str]) -> None:
    """Tokens for the hub's users, in the file the hub reads; nobody else may."""
    hub.mkdir()
    text = json.dumps({f"hf_{secrets.token_hex(16)}": user for user in users}, indent=1) + "\n"
    file = os.open(hub / "tokens.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as out:
        out.write(text)


def _settle(world: World) -> None:
    """Wallets for everybody, and their places on the subnet."""
    settle_validators(world)
    miners = []
    for name, role, steps, story in MINERS:
        hotkey, coldkey = new_wallet(world, name)
        miners.append(Miner(name, world.chain.register(world.netuid, hotkey, coldkey), hotkey, role, steps, story))
    world.miners = tuple(miners)


def settle_validators(world: World) -> None:
    """Wallets for the validators, and their places on the subnet."""
    validators = []
    for name, stake in STAKES.items():
        hotkey, coldkey = new_wallet(world, name)
        uid = world.chain.register(world.netuid, hotkey, coldkey, stake=stake, permit=True)
        validators.append(Validator(name, uid, hotkey, stake))
    world.validators = tuple(validators)


def new_wallet(world: World, name: str) -> tuple[str, str]:
    """The addresses of a new wallet's hotkey and coldkey."""
    from bittensor import Wallet

    from sn37.devnet.world import HOTKEY

    wallet = Wallet(name, HOTKEY, str(world.wallets))
    wallet.create_new_coldkey(use_password=False, suppress=True)
    wallet.create_new_hotkey(use_password=False, suppress=True)
    return str(wallet.hotkey.ss58_address), str(wallet.coldkeypub.ss58_address)


def _publish_data(world: World, tables: training.Tables, tokenizer: object) -> None:
    """The tokenizer and the datasets, as files of public repos."""
    hub = world.hub(CURATOR)
    for repo, splits in tables.items():
        publish_dataset(hub, Dataset(repo, {("default", split): rows for split, rows in splits.items()}, 10_000))
    publish_tokenizer(hub, f"{CURATOR}/tokenizer", tokenizer)


def publish_dataset(hub: Hub, dataset: Dataset) -> None:
    """A dataset's files as a public repo of the hub's user."""
    with tempfile.TemporaryDirectory(prefix="sn37-world-") as temporary:
        folder = dataset.write(Path(temporary))
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            hub.publish_file(dataset.repo, name, path.read_bytes(), repo_type="dataset")


def publish_tokenizer(hub: Hub, repo: str, tokenizer: object) -> None:
    """A tokenizer's files as a public repo of the hub's user."""
    with tempfile.TemporaryDirectory(prefix="sn37-world-") as temporary:
        for path in training.save_tokenizer(tokenizer, Path(temporary)):
            hub.publish_file(repo, path.name, path.read_bytes())


def _place(world: World) -> Place:
    steps = sorted({miner.steps for miner in world.miners if miner.steps})
    return Place(
        competition=world.competition,
        miners=world.miners,
        models={count: world.root / "models" / f"{count}-steps" for count in steps},
        subnet=world.subnet,
        hub=world.hub,
    )
