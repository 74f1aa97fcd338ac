"""Models for any competition of the devnet: trained on samples that its own sources draw, with other seeds.

One training run, looked at after different numbers of steps, gives models of different quality. Data is read from
memory, not from the hub; a dataset that has a split `train` is read there, so nothing learns its `test` rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from wandb_server import ServedRun

from sn37.clock import generator
from sn37.competition import Competition, EvalTask
from sn37.devnet import bigrams, tiny_llama
from sn37.devnet.datasets import Dataset, InMemory
from sn37.devnet.training import one_thread
from sn37.miner.rows import loss_rows
from sn37.sample import Sample
from sn37.sources import SOURCES, Context
from sn37.sources.base import Run

_DRAWS = 8
"""How often each task's samples are drawn: so much a miner sees of what it may be asked."""

_PER_STEP = {"choice_likelihood": 16, "multiple_choice": 6, "reference_loss": 4, "text_loss": 6}
"""Rows of a task in one step, by method; those of other methods hold no reply to learn."""


@dataclass(frozen=True)
class Material:
    """What the sources draw from. runs: of every project; stakes: of the authors, by hotkey; as_of: the time."""

    datasets: Mapping[str, Dataset]
    runs: Sequence[ServedRun]
    stakes: Mapping[str, float]
    as_of: datetime

    def context(self, seed: int, task: str) -> Context:
        """What a source gets for one task of an epoch with that seed."""
        from sn37.chain import verify

        return Context(generator(seed, task), self.as_of, InMemory(self.datasets), self._read, self._trusted, verify)

    def _read(self, project: str, since: datetime, until: datetime) -> list[Run]:
        alive = [run for run in self.runs if run.created_at <= until and run.heartbeat_at >= since]
        return [Run(run.id, run.config, run.history) for run in alive if run.project == project]

    def _trusted(self, netuid: int, min_stake: float) -> frozenset[str]:
        return frozenset(hotkey for hotkey, stake in self.stakes.items() if stake >= min_stake)


def samples(competition: Competition, material: Material, seeds: Iterable[int]) -> dict[str, list[Sample]]:
    """What epochs with those seeds would draw for each task that a model can learn from, each sample once."""
    drawn: dict[str, dict[Sample, None]] = {}
    for task in competition.tasks:
        if task.method in _PER_STEP:
            arguments = _for_training(task, material)
            found = drawn.setdefault(task.name, {})
            for seed in seeds:
                found |= dict.fromkeys(SOURCES[task.source](**arguments)(material.context(seed, task.name)))
    return {name: list(found) for name, found in drawn.items()}


def train(
    competition: Competition,
    material: Material,
    tokenizer: Any,
    folders: Mapping[int, Path],
    without: Collection[str] = (),
) -> None:
    """Train one model and save it into `folders[n]` after n steps, for every n.

    without: tasks that are left out. Deterministic: one thread, fixed seeds.
    """
    methods = {task.name: task.method for task in competition.tasks if task.name not in without}
    parts = []
    for name, found in samples(competition, material, range(_DRAWS)).items():
        if name in methods:
            rows = loss_rows(found, tokenizer, competition.constraints.sequence_length)
            parts.append(tiny_llama.Part(rows, min(_PER_STEP[methods[name]], len(rows))))
    # 329 000 parameters with a vocabulary of 1024: between the least and the most of every competition
    model = tiny_llama.small_llama(tokenizer, hidden=76, layers=3, positions=competition.constraints.sequence_length)
    with one_thread():
        bigrams.start_from_bigrams(model, (row.tokens for part in parts for row in part.rows))
        for step, _ in zip(range(1, max(folders) + 1), tiny_llama.train(model, parts), strict=False):
            if step in folders:
                tiny_llama.save(model, tokenizer, folders[step])


def _for_training(task: EvalTask, material: Material) -> dict[str, Any]:
    """The source's arguments, with the split `train` in place of another one, where there is one."""
    arguments = dict(task.source_args)
    if task.source == "hub_dataset":
        splits = {split for _, split in material.datasets[arguments["repo"]].parts}
        arguments["split"] = "train" if "train" in splits else arguments["split"]
    return arguments
