"""How a world of all competitions comes to be: keys, authors, data, models, submissions, in that order."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sn37.competition import Competition
from sn37.competitions.funding import HUB_FILE
from sn37.devnet import authors, practice, training
from sn37.devnet.datasets import Dataset, codeforces_cots, fineweb, macrobench, synthetic_1_sft
from sn37.devnet.founding import (
    BLOCKS_BETWEEN_COMMITMENTS,
    CURATOR,
    give_tokens,
    new_wallet,
    publish_dataset,
    publish_tokenizer,
    settle_validators,
)
from sn37.devnet.population import Miner
from sn37.miner import publish
from sn37.sources.authors import MIN_STAKE
from sn37.workers.sandbox import die_with_parent

if TYPE_CHECKING:
    from sn37.devnet.everything import Everything

__all__ = ["MINERS", "TRAININGS", "Training", "found"]

HUB_COMPETITION = Path(__file__).with_name("hub_competition.toml")
TOKENIZER = "Xenova/gpt-4"
_LENT = f"{CURATOR}/step-by-step"
_WAIT_BLOCKS = 100
"""So long before the first epoch it is left to whoever plays in it."""


@dataclass(frozen=True)
class Training:
    """One training run for a competition. steps: after which the model is kept; vocabulary: of its tokenizer;
    without: tasks that are left out."""

    competition: str
    steps: tuple[int, ...]
    vocabulary: int = training.VOCABULARY
    without: tuple[str, ...] = ()


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

MINERS = (
    ("miner-1", "SN9_MODEL", "chat", 15),
    ("miner-2", "SN9_MODEL", "chat", 45),
    ("miner-3", "B7_MULTI_CHOICE", "reader", 80),
    ("miner-4", "B7_MULTI_CHOICE", "scholar", 120),
    ("miner-5", "INSTRUCT_8B", "speller", 80),
    ("miner-6", "INSTRUCT_8B", "reader", 80),
    ("miner-7", "DISTILLED_REASONING_3B", "thinker", 40),
    ("miner-8", "DISTILLED_REASONING_3B", "thinker", 10),
    ("miner-9", "GENERAL_KNOWLEDGE", "beginner", 25),
    ("miner-10", "GENERAL_KNOWLEDGE", "expert", 80),
    ("miner-11", "STEP_BY_STEP", "clerk", 10),
    ("miner-12", "STEP_BY_STEP", "clerk", 40),
)
"""(name, competition, training, after how many steps) in the order in which they commit."""

Tell = Callable[[str], None]


def found(world: Everything, port: int, tell: Tell) -> None:
    """Fill an empty world; its description is written last, and makes it whole."""
    tell(f"making keys, registering two validators, {len(authors.STAKES)} authors and {len(MINERS)} miners")
    _settle(world)
    tables = training.data()
    material = _material(world, tables)
    owners = sorted({repo.split("/")[0] for repo in (*material.datasets, TOKENIZER)})
    give_tokens(world.root / "hub", [*owners, *(name for name, *_ in MINERS)])
    world.start_hub(port)
    tell(f"publishing {len(material.datasets)} datasets, a tokenizer and a competition")
    tokenizers = {size: training.tokenizer(tables, size) for size in sorted({t.vocabulary for t in TRAININGS.values()})}
    _publish(world, material, tokenizers[training.VOCABULARY])
    competitions = {share.competition.name: share.competition for share in world.shares()}
    tell(f"training the miners' models in {len(TRAININGS)} runs")
    _train(world, competitions, material, tokenizers)
    for miner, (_, name, run, steps) in zip(world.miners, MINERS, strict=True):
        tell(f"{miner.name} publishes and commits to {name}")
        with world.subnet(miner.name) as subnet:
            publish(_model(world, run, steps), miner.repo, competitions[name], world.hub(miner.name), subnet)
        world.chain.advance(BLOCKS_BETWEEN_COMMITMENTS)
    delay = max(competition.constraints.delay_blocks for competition in competitions.values())
    world.chain.advance_to(world.clock.next_sync_block(world.chain.head() + delay) - _WAIT_BLOCKS)
    world.describe()


def _settle(world: Everything) -> None:
    """Wallets for everybody, and their places on their subnets."""
    settle_validators(world)
    for name, stake in authors.STAKES.items():
        hotkey, coldkey = new_wallet(world, name)
        for netuid in authors.NETUIDS:
            world.chain.register(netuid, hotkey, coldkey, stake=stake, permit=True)
    miners = []
    for name, competition, run, steps in MINERS:
        hotkey, coldkey = new_wallet(world, name)
        uid = world.chain.register(world.netuid, hotkey, coldkey)
        miners.append(Miner(name, uid, hotkey, "honest", steps, f"{competition}: {_story(run, steps)}"))
    world.miners = tuple(miners)


def _story(run: str, steps: int) -> str:
    how = TRAININGS[run]
    less = f" without {' and '.join(how.without)}" if how.without else ""
    words = f", a tokenizer of {how.vocabulary} words" if how.vocabulary != training.VOCABULARY else ""
    return f"trained for {steps} steps{less}{words}"


def _material(world: Everything, tables: training.Tables) -> practice.Material:
    keys = authors.open_keys(world.wallets)
    stakes = {key.ss58_address: authors.STAKES[name] for name, key in keys.items()}
    trusted = [hotkey for hotkey, stake in stakes.items() if stake >= MIN_STAKE]
    others = [hotkey for hotkey in stakes if hotkey not in trusted]
    now = world.chain.now()
    datasets = (
        macrobench(trusted, now, others, periods=6, rows=60),
        fineweb(rows=120),
        synthetic_1_sft(240),
        codeforces_cots(160),
        *(Dataset(repo, {("default", split): rows for split, rows in parts.items()}) for repo, parts in tables.items()),
    )
    runs = authors.Logs(keys, world.chain.now)()
    return practice.Material({dataset.repo: dataset for dataset in datasets}, runs, stakes, now)


def _publish(world: Everything, material: practice.Material, tokenizer: Any) -> None:
    """The datasets, the tokenizer and the competition on the hub, as public repos."""
    for repo, dataset in material.datasets.items():
        publish_dataset(world.hub(repo.split("/")[0]), dataset)
    publish_tokenizer(world.hub(TOKENIZER.split("/")[0]), TOKENIZER, tokenizer)
    commit = world.hub(CURATOR).publish_file(_LENT, HUB_FILE, HUB_COMPETITION.read_bytes())
    world.lent = f"{_LENT}@{commit}"


def _model(world: Everything, run: str, steps: int) -> Path:
    return world.root / "models" / f"{run}-{steps}-steps"


def _train(
    world: Everything,
    competitions: Mapping[str, Competition],
    material: practice.Material,
    tokenizers: Mapping[int, Any],
) -> None:
    """All training runs, the longest first, in processes that end with this one."""
    workers = min(len(TRAININGS), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, get_context("spawn"), die_with_parent) as pool:
        running = []
        for name, run in sorted(TRAININGS.items(), key=lambda item: -max(item[1].steps)):
            folders = {steps: _model(world, name, steps) for steps in run.steps}
            competition, tokenizer = competitions[run.competition], tokenizers[run.vocabulary]
            running.append(pool.submit(practice.train, competition, material, tokenizer, folders, run.without))
        for each in as_completed(running):
            each.result()
