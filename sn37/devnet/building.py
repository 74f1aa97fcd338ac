"""How a small world is built: keys, neurons, data, models, submissions, in that order; half a minute."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from sn37.devnet import training
from sn37.devnet.chain import Chain
from sn37.devnet.miners import MINERS, model_folder, submit
from sn37.devnet.running import hub_of, open_world, start_hub, stop_hub
from sn37.devnet.world import COMPETITION, HOTKEY, NETUID, Miner, Validator, World
from sn37.errors import ConfigError
from sn37.files import write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from sn37.hub import Hub

__all__ = [
    "BLOCKS_BETWEEN_COMMITMENTS",
    "CURATOR",
    "START_BLOCK",
    "Progress",
    "build",
    "folder_to_build_in",
    "new_wallet",
    "open_or_build",
    "publish_tokenizer",
    "register_validators",
    "write_tokens",
]

START_BLOCK = 5_200_000

CURATOR = "devnet"
"""The hub's user who owns the tokenizer and the datasets."""

STAKES = {"validator-1": 500_000.0, "validator-2": 300_000.0}
"""The validators' names and stakes, in TAO."""

BLOCKS_BETWEEN_COMMITMENTS = 5
_LATE_BLOCKS = 200
"""The late miner commits so many blocks before the first epoch: in time for the second."""

_MARK = ".sn37-world"

Progress = Callable[[str], None]
"""Called with what is being done."""


def build(root: Path, *, port: int = 0, progress: Progress = lambda text: None) -> World:
    """Build a world in an empty folder, or anew where an earlier attempt was cut off; its hub runs afterwards.

    port: of the hub, 0 for any free one. Blocks pass on command. Raises ConfigError where something else lies there.
    """
    root = Path(root).absolute()
    with folder_to_build_in(root):
        shutil.copyfile(COMPETITION, root / "competition.toml")
        Chain.create(root / "chain.sqlite", start_block=START_BLOCK, netuids=(NETUID,)).close()
        world = World(root)
        try:
            return _build(world, port, progress)
        except BaseException:
            stop_hub(world)
            raise


def open_or_build(root: Path, *, port: int = 0, progress: Progress = lambda text: None) -> World:
    """The world in that folder, its hub running: opened where there is one, else built. port, progress: as in `build`.

    What an interrupted attempt to build has left is built anew.
    """
    return open_world(root, port=port) if World.exists(root) else build(root, port=port, progress=progress)


@contextmanager
def folder_to_build_in(root: Path) -> Iterator[None]:
    """Keep the folder to ourselves, marked and otherwise empty; what a cut-off attempt left there goes."""
    mark = root / _MARK
    if root.is_dir() and any(root.iterdir()) and not mark.is_file():
        raise ConfigError(f"{root} is not empty and holds no world; choose another folder")
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(mark, blocking=False, preserve_lock_file=True)
    try:
        held = lock.acquire()  # a context that releases it
    except Timeout:
        raise ConfigError(f"another process is building a world in {root}; wait for it") from None
    with held:
        if World.exists(root):
            raise ConfigError(f"there is a world in {root} already; open it, or choose another folder")
        hub_of(root).stop()
        for left in root.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left != mark:
                left.unlink()
        yield


def _build(world: World, port: int, progress: Progress) -> World:
    """Fill an empty world; its description is written last, and makes it whole."""
    progress("making keys, registering two validators and seven miners")
    write_tokens(world.root / "hub", [CURATOR, *(name for name, *_ in MINERS)])
    world = replace(world, validators=register_validators(world))
    world = replace(world, miners=_register_miners(world))
    world = start_hub(world, port)
    progress("collecting texts and questions, training a tokenizer")
    datasets = training.data()
    tokenizer = training.tokenizer(datasets)
    for dataset in datasets.values():
        dataset.publish(world.hub_endpoint, world.token(CURATOR))
    publish_tokenizer(world.hub(CURATOR), f"{CURATOR}/tokenizer", tokenizer)
    folders = {steps: model_folder(world, steps) for steps in sorted({m.steps for m in world.miners if m.steps})}
    progress(f"training a model for {max(folders)} steps")
    for folder in training.train_models(world.competition, datasets, tokenizer, folders):
        progress(f"saved it after {folder.name.partition('-')[0]} of {max(folders)} steps")
    for miner in world.miners:
        if miner.role == "late":
            world.chain.advance_to(_first_epoch(world) - _LATE_BLOCKS)
        progress(f"{miner.name} publishes and commits")
        submit(world, miner)
        world.chain.advance(BLOCKS_BETWEEN_COMMITMENTS)
    world.write()
    return world


def _first_epoch(world: World) -> int:
    """The first sync block that picks up what is committed by now."""
    return world.clock.next_sync_block(world.chain.head() + world.competition.constraints.delay_blocks)


def write_tokens(hub: Path, users: list[str]) -> None:
    """Tokens for the hub's users, in the file the hub reads; nobody else may."""
    hub.mkdir()
    text = json.dumps({f"hf_{secrets.token_hex(16)}": user for user in users}, indent=1) + "\n"
    file = os.open(hub / "tokens.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as out:
        out.write(text)


def register_validators(world: World) -> tuple[Validator, ...]:
    """Wallets for the validators, and their places on the subnet."""
    validators = []
    for name, stake in STAKES.items():
        hotkey, coldkey = new_wallet(world, name)
        uid = world.chain.register(world.netuid, hotkey, coldkey, stake=stake, permit=True)
        validators.append(Validator(name, uid, hotkey, stake))
    return tuple(validators)


def _register_miners(world: World) -> tuple[Miner, ...]:
    miners = []
    for name, role, steps, story in MINERS:
        hotkey, coldkey = new_wallet(world, name)
        miners.append(Miner(name, world.chain.register(world.netuid, hotkey, coldkey), hotkey, role, steps, story))
    return tuple(miners)


def add_miner(world: World, name: str) -> int:
    """Register another miner in a world, with a wallet and a token of the hub; returns its uid.

    Raises ConfigError for a name that is taken, or is none of a hub's user.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
        raise ConfigError(f"the name {name!r} is none; expected up to 31 of a-z, 0-9 and -")
    path = world.root / "hub" / "tokens.json"
    tokens = json.loads(path.read_text(encoding="utf-8"))
    if name in tokens.values() or (world.wallets / name).exists():
        raise ConfigError(f"{name} takes part in {world.root} already; choose another name")
    uid = world.chain.register(world.netuid, *new_wallet(world, name))
    write_json(path, {**tokens, f"hf_{secrets.token_hex(16)}": name})
    path.chmod(0o600)
    return uid


def new_wallet(world: World, name: str) -> tuple[str, str]:
    """The addresses of a new wallet's hotkey and coldkey."""
    from bittensor import Wallet

    wallet = Wallet(name, HOTKEY, str(world.wallets))
    wallet.create_new_coldkey(use_password=False, suppress=True)
    wallet.create_new_hotkey(use_password=False, suppress=True)
    return str(wallet.hotkey.ss58_address), str(wallet.coldkeypub.ss58_address)


def publish_tokenizer(hub: Hub, repo: str, tokenizer: PreTrainedTokenizerFast) -> None:
    """A tokenizer's files as a public repo of the hub's user."""
    with tempfile.TemporaryDirectory(prefix="sn37-world-") as temporary:
        tokenizer.save_pretrained(temporary)
        for path in sorted(Path(temporary).iterdir()):
            hub.publish_file(repo, path.name, path.read_bytes())
