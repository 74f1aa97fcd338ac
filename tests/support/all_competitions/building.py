"""How a world of all competitions is built: keys, authors, data, models, submissions, in that order."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from public_datasets import codeforces_cots, fineweb, macrobench, synthetic_1_sft
from wandb_server import WandbServer

from all_competitions import authors
from all_competitions.scaled import write_schedule
from all_competitions.training import Material, train
from all_competitions.world import AllCompetitions
from sn37.competition import Competition
from sn37.competitions.funding import HUB_FILE
from sn37.devnet.building import (
    BLOCKS_BETWEEN_COMMITMENTS,
    CURATOR,
    START_BLOCK,
    Progress,
    folder_to_build_in,
    new_wallet,
    publish_tokenizer,
    register_validators,
    write_tokens,
)
from sn37.devnet.chain import Chain
from sn37.devnet.running import running, start_hub
from sn37.devnet.training import VOCABULARY, data, tokenizer
from sn37.devnet.world import NETUID, Miner, World
from sn37.miner import publish
from sn37.sources.authors import MIN_STAKE
from sn37.workers.sandbox import die_with_parent

_OWN_COMPETITION = Path(__file__).with_name("own_competition.toml")
_HUB_COMPETITION = Path(__file__).with_name("hub_competition.toml")
_TOKENIZER = "Xenova/gpt-4"
_LENT = f"{CURATOR}/step-by-step"
_WAIT_BLOCKS = 100
"""So long before the first epoch it is left to whoever plays in it."""


@dataclass(frozen=True)
class Training:
    """One training run for a competition."""

    competition: str
    """Its name."""

    steps: tuple[int, ...]
    """After which the model is kept."""

    vocabulary: int = VOCABULARY
    """Tokens of the model's tokenizer."""

    without: tuple[str, ...] = ()
    """Tasks that are left out."""


TRAININGS = {
    "chat": Training("SN9_MODEL", (15, 45)),
    "reader": Training("B7_MULTI_CHOICE", (80,), without=("SYNTHETIC_MMLU",)),
    "scholar": Training("B7_MULTI_CHOICE", (120,)),
    "speller": Training("INSTRUCT_8B", (80,), vocabulary=512),
    "thinker": Training("DISTILLED_REASONING_3B", (10, 40)),
    "expert": Training("GENERAL_KNOWLEDGE", (80,)),
    "beginner": Training("GENERAL_KNOWLEDGE", (25,), vocabulary=512),
    "clerk": Training("STEP_BY_STEP", (10, 40)),
}


@dataclass(frozen=True)
class Entrant:
    """A miner of the world: whose model it is."""

    name: str
    """The miner's."""

    competition: str
    """The name of the competition it takes part in."""

    training: str
    """The name of the training run."""

    steps: int
    """After how many of its steps."""


MINERS = (
    Entrant("miner-1", "SN9_MODEL", "chat", 15),
    Entrant("miner-2", "SN9_MODEL", "chat", 45),
    Entrant("miner-3", "B7_MULTI_CHOICE", "reader", 80),
    Entrant("miner-4", "B7_MULTI_CHOICE", "scholar", 120),
    Entrant("miner-5", "INSTRUCT_8B", "speller", 80),
    Entrant("miner-6", "INSTRUCT_8B", "reader", 80),
    Entrant("miner-7", "DISTILLED_REASONING_3B", "thinker", 40),
    Entrant("miner-8", "DISTILLED_REASONING_3B", "thinker", 10),
    Entrant("miner-9", "GENERAL_KNOWLEDGE", "beginner", 25),
    Entrant("miner-10", "GENERAL_KNOWLEDGE", "expert", 80),
    Entrant("miner-11", "STEP_BY_STEP", "clerk", 10),
    Entrant("miner-12", "STEP_BY_STEP", "clerk", 40),
)
"""In the order in which they commit."""


@contextmanager
def built(
    root: Path,
    progress: Progress = lambda text: None,
    trainings: Mapping[str, Training] = TRAININGS,
    entrants: Sequence[Entrant] = MINERS,
) -> Iterator[AllCompetitions]:
    """The world of all competitions, built in an empty folder; its hub and wandb run for as long as the context."""
    root = Path(root).absolute()
    with ExitStack() as servers:
        with folder_to_build_in(root):
            progress(f"registering two validators, {len(authors.STAKES)} authors and {len(entrants)} miners")
            world = _registered(root, trainings, entrants)
            material = _material(world)
            owners = sorted({repo.split("/")[0] for repo in (*material.datasets, _TOKENIZER)})
            write_tokens(root / "hub", [*owners, *(entrant.name for entrant in entrants)])
            servers.enter_context(running(world))
            world = start_hub(world)
            logs = authors.Logs(authors.open_keys(world.wallets), world.chain.now)
            wandb = servers.enter_context(WandbServer(logs=logs))
            progress(f"publishing {len(material.datasets)} datasets, a tokenizer and a competition")
            sizes = sorted({training.vocabulary for training in trainings.values()})
            tokenizers = {size: tokenizer(material.datasets, size) for size in sizes}
            scene = AllCompetitions(world, wandb.base_url, _publish(world, material, tokenizers[VOCABULARY]))
            competitions = {share.competition.name: share.competition for share in scene.shares()}
            progress(f"training the miners' models in {len(trainings)} runs")
            _train(world, competitions, material, tokenizers, trainings)
            _submit(world, competitions, entrants, progress)
            world.write()
        yield scene


def _registered(root: Path, trainings: Mapping[str, Training], entrants: Sequence[Entrant]) -> World:
    """The world before anything happened in it: competitions, chain, wallets, and everybody's place on a subnet."""
    shutil.copyfile(_OWN_COMPETITION, root / "competition.toml")
    (root / "competitions").mkdir()
    write_schedule(root / "competitions")
    netuids = (NETUID, *authors.NETUIDS)
    Chain.create(root / "chain.sqlite", start_block=START_BLOCK, netuids=netuids).close()
    world = World(root)
    validators = register_validators(world)
    for name, stake in authors.STAKES.items():
        hotkey, coldkey = new_wallet(world, name)
        for netuid in authors.NETUIDS:
            world.chain.register(netuid, hotkey, coldkey, stake=stake, permit=True)
    miners = []
    for entrant in entrants:
        hotkey, coldkey = new_wallet(world, entrant.name)
        uid = world.chain.register(world.netuid, hotkey, coldkey)
        story = f"{entrant.competition}: {_story(trainings[entrant.training], entrant.steps)}"
        miners.append(Miner(entrant.name, uid, hotkey, "honest", entrant.steps, story))
    return replace(world, validators=validators, miners=tuple(miners))


def _story(training: Training, steps: int) -> str:
    less = f" without {' and '.join(training.without)}" if training.without else ""
    words = f", a tokenizer of {training.vocabulary} words" if training.vocabulary != VOCABULARY else ""
    return f"trained for {steps} steps{less}{words}"


def _material(world: World) -> Material:
    keys = authors.open_keys(world.wallets)
    stakes = {key.ss58_address: authors.STAKES[name] for name, key in keys.items()}
    trusted = [hotkey for hotkey, stake in stakes.items() if stake >= MIN_STAKE]
    others = [hotkey for hotkey in stakes if hotkey not in trusted]
    now = world.chain.now()
    public = (
        macrobench(trusted, now, others, periods=6, rows=60),
        fineweb(rows=120),
        synthetic_1_sft(240),
        codeforces_cots(160),
    )
    datasets = {dataset.repo: dataset for dataset in (*public, *data().values())}
    return Material(datasets, authors.Logs(keys, world.chain.now)(), stakes, now)


def _publish(world: World, material: Material, tokenizer: Any) -> str:
    """The datasets, the tokenizer and the competition on the hub, as public repos; `repo@commit` of the last."""
    for repo, dataset in material.datasets.items():
        dataset.publish(world.hub_endpoint, world.token(repo.split("/")[0]))
    publish_tokenizer(world.hub(_TOKENIZER.split("/")[0]), _TOKENIZER, tokenizer)
    commit = world.hub(CURATOR).publish_file(_LENT, HUB_FILE, _HUB_COMPETITION.read_bytes())
    return f"{_LENT}@{commit}"


def _model(world: World, training: str, steps: int) -> Path:
    return world.root / "models" / f"{training}-{steps}-steps"


def _train(
    world: World,
    competitions: Mapping[str, Competition],
    material: Material,
    tokenizers: Mapping[int, Any],
    trainings: Mapping[str, Training],
) -> None:
    """All training runs, the longest first, in processes that end with this one."""
    workers = min(len(trainings), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, get_context("spawn"), die_with_parent) as pool:
        started = []
        for name, training in sorted(trainings.items(), key=lambda item: -max(item[1].steps)):
            folders = {steps: _model(world, name, steps) for steps in training.steps}
            competition, words = competitions[training.competition], tokenizers[training.vocabulary]
            started.append(pool.submit(train, competition, material, words, folders, training.without))
        for each in as_completed(started):
            each.result()


def _submit(
    world: World, competitions: Mapping[str, Competition], entrants: Sequence[Entrant], progress: Progress
) -> None:
    """Every miner publishes and commits; blocks pass until shortly before all of them are picked up."""
    for miner, entrant in zip(world.miners, entrants, strict=True):
        progress(f"{entrant.name} publishes and commits to {entrant.competition}")
        model, competition = _model(world, entrant.training, entrant.steps), competitions[entrant.competition]
        with world.subnet(miner.name) as subnet:
            publish(model, miner.repo, competition, world.hub(miner.name), subnet)
        world.chain.advance(BLOCKS_BETWEEN_COMMITMENTS)
    delay = max(competition.constraints.delay_blocks for competition in competitions.values())
    world.chain.advance_to(world.clock.next_sync_block(world.chain.head() + delay) - _WAIT_BLOCKS)
