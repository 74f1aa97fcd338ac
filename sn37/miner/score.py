"""Would this model win? A validator's own evaluation, beside the model that it must beat.

The samples are those of a sync block, or of a recorded epoch, and the checks, engine and numbers those of a validator.
What cannot be known is left open: the samples of the epoch that picks the model up come from a block hash that does not
exist yet, and whoever commits meanwhile takes part too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.analysis.outcomes import task_pairs
from sn37.analysis.stats import Interval, score_difference
from sn37.clock import BLOCKS_PER_DAY, Clock, duration, seed_of
from sn37.competition import Competition
from sn37.errors import ConfigError
from sn37.evaluation.local import Data, evaluate
from sn37.evaluation.result import LocalResult
from sn37.html import table
from sn37.incentive import Contender, FirstWin, first_win, needed
from sn37.miner.starts import leader
from sn37.records.epochs import Epoch
from sn37.records.results import Measurement

if TYPE_CHECKING:
    from sn37.chain import Subnet

__all__ = ["Verdict", "score"]

_MINE, _RIVAL = "this model", "the reigning model"


@dataclass(frozen=True)
class Verdict:
    """Whether a model would win, in words and numbers; true where it would. Losses: lower is better."""

    competition: Competition
    """The competition."""
    result: LocalResult
    """Both models on the samples: `result.scores`, `result.samples`, `result.compare()`."""
    rival: Contender | None
    """The model that must be beaten, with its loss on these samples; None where nobody reigns yet."""
    block: int
    """The chain's newest block, at which the model is taken to be committed."""
    picked_up_at: int
    """The first sync block it can take part in."""

    @property
    def fault(self) -> str:
        """Why a validator would refuse the model; "" where it passes."""
        return self.result.faults.get(_MINE, "")

    @property
    def loss(self) -> float:
        """The model's score on these samples: a loss, lower is better; inf where it has none."""
        return _loss(self.competition, self.result, _MINE)

    @cached_property
    def difference(self) -> Interval | None:
        """Its loss less the reigning model's, paired by sample and clustered by group: below 0 it is better."""
        mine, theirs = (self.result.measured.get(name) for name in (_MINE, _RIVAL))
        if not isinstance(mine, Measurement) or not isinstance(theirs, Measurement):
            return None
        pairs = task_pairs(self.competition.tasks, mine.tasks, theirs.tasks, self.result.drawn)
        return score_difference(pairs, seed=self.result.seed)

    @property
    def needed(self) -> Mapping[str, float]:
        """The loss it must be strictly below at its first epoch, a day and a week after it: epsilon decays."""
        if self.rival is None:
            return {}
        later = {"at its first epoch": 0, "a day later": BLOCKS_PER_DAY, "a week later": 7 * BLOCKS_PER_DAY}
        epsilon = self.competition.epsilon
        return {name: needed(self.rival, epsilon, self.picked_up_at + blocks) for name, blocks in later.items()}

    @property
    def first_win(self) -> FirstWin:
        """The first block from its first epoch on at which it beats the reigning model, if no score changes."""
        if not math.isfinite(self.loss):
            return FirstWin(None, "it has no score")
        if self.rival is None:
            return FirstWin(self.picked_up_at, "")
        mine = Contender("", 0, max(self.block, self.rival.block + 1), self.loss)
        return first_win(mine, self.rival, self.competition.epsilon, self.picked_up_at)

    def __bool__(self) -> bool:
        return self.first_win.block == self.picked_up_at

    def _sentences(self) -> list[str]:
        if self.fault:
            return [f"not valid: {self.fault}"]
        wait = duration(self.picked_up_at - self.block)
        pick_up = f"committed now it is picked up at sync block {self.picked_up_at:,}, in {wait}"
        if self.rival is None:
            failed = self.result.faults.get(_RIVAL)
            alone = f"the leader's has none: {failed}" if failed else f"nobody reigns in {self.competition.name} yet"
            return [f"valid, with a loss of {self.loss:.4f}; {alone}", pick_up]
        rival = f"uid {self.rival.uid} has {self.rival.score:.4f}"
        told = [f"{'would win' if self else 'would not win'}: a loss of {self.loss:.4f}, where {rival}", pick_up]
        told.append("needed: below " + ", ".join(f"{value:.4f} {when}" for when, value in self.needed.items()))
        told += [self._certainty()] if self.difference is not None else []
        win = self.first_win
        if win.block is None:
            told.append(f"it never wins as it is: {win.why}")
        elif not self:
            told.append(f"it wins from block {win.block:,} on, {duration(win.block - self.picked_up_at)} later")
        gain = self.loss - self.needed["at its first epoch"]
        if gain >= 0:
            share = f", {gain / self.loss:.1%} of its loss" if self.loss else ""
            told.append(f"to win at once it must gain more than {gain:.4f}{share}")
        return told

    def _certainty(self) -> str:
        """Whether other samples could turn the verdict around."""
        found, rival = self.difference, self.rival
        assert found is not None and rival is not None
        least = self.needed["at its first epoch"] - rival.score
        interval = f"its loss less the other's is {found.estimate:+.4f} [{found.low:+.4f}, {found.high:+.4f}] (95 %)"
        if found.low < least <= found.high:
            return f"{interval}; {least:+.4f} is needed: other samples may decide otherwise"
        return f"{interval}; {least:+.4f} is needed: hardly a matter of the samples"

    def __str__(self) -> str:
        first, *others = self._sentences()
        return "\n".join([f"{self.competition.name}: {first}", *(f"  {text}" for text in others)])

    def _repr_html_(self) -> str:
        first, *others = self._sentences()
        listed = "".join(f"<li>{escape(text)}</li>" for text in others)
        rows = [(row.task, row.model, row.raw, row.normalized, row.weighted) for row in self.result.scores.itertuples()]
        scores = table(("task", "model", "raw score", "normalized", "weighted"), rows)
        return f"<p><b>{escape(self.competition.name)}: {escape(first)}</b></p><ul>{listed}</ul>{scores}"


def score(
    model: str | Path,
    competition: Competition,
    subnet: Subnet,
    *,
    against: Epoch | None = None,
    sync_block: int | None = None,
    seed: int | None = None,
    data: Data | None = None,
    device: str = "auto",
    clock: Clock | None = None,
) -> Verdict:
    """Score a model as a validator would, beside the one that reigns, and say whether it would win.

    model: a folder, or `user/repo@<full commit>`. against: a recorded epoch, whose samples and winner are taken;
    without it the leader by incentive is fetched from the hub. sync_block: whose samples are drawn, the newest without
    it; seed: any other seed in its place. Raises ConfigError, ChainFault, DataFault, HubFault.

    >>> print(score("my-model", public("INSTRUCT_8B"), Subnet("finney", 37)))  # doctest: +SKIP
    INSTRUCT_8B: would win: a loss of 0.4021, where uid 4 has 0.4361 ...
    """
    clock, data, head = clock or Clock(), data or Data(), subnet.head()
    models: dict[str, str | Path] = {_MINE: model}
    rival: Contender | None = None
    if against is not None:
        if sync_block is not None or seed is not None:
            raise ConfigError("against an epoch its own samples are taken; name no sync_block and no seed beside it")
        competition, seed = against.manifest.competition, against.manifest.seed
        samples = {task.name: against.samples(task.name) for task in competition.tasks}
        if not all(samples.values()):
            raise ConfigError(f"the samples of {against.folder} are not kept any more; name a newer epoch")
    else:
        samples = {}
        if seed is None:
            place = clock.chosen(sync_block, head)
            seed = seed_of(subnet.block_hash(place))
            trusted = data.trusted or (lambda netuid, stake: subnet.trusted(netuid, stake, place))
            data = replace(data, as_of=subnet.timestamp(place), trusted=trusted)
        found = leader(subnet, competition.id)
        if found is not None and found[0].model is not None:
            theirs = found[0]
            models[_RIVAL] = f"{found[0].model.repo}@{found[0].model.commit}"
            rival = Contender(theirs.hotkey, theirs.uid, theirs.block, math.inf)
    result = evaluate(models, competition, seed, data=data, samples=samples, device=device)
    if against is not None and against.decision.best is not None:
        best = against.decision.best
        measured = against.results[best.hotkey].measurement
        assert measured is not None, "a winner was measured"
        result = replace(result, measured={**result.measured, _RIVAL: measured})
        rival = best.contender
    elif rival is not None:
        loss = _loss(competition, result, _RIVAL)
        rival = replace(rival, score=loss) if math.isfinite(loss) else None
    # A commitment sent now is in the next block at the earliest.
    picked_up_at = clock.first_epoch(head + 1, competition.constraints.delay_blocks)
    return Verdict(competition, result, rival, head, picked_up_at)


def _loss(competition: Competition, result: LocalResult, name: str) -> float:
    found = result.measured.get(name)
    if not isinstance(found, Measurement):
        return math.inf
    return competition.score({task: outcome.score for task, outcome in found.tasks.items()})
