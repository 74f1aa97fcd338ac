"""Who is evaluated in an epoch: a pure function of the chain at the sync block and the records.

Protocol, section 8, last part. Knows nothing of models, files or the network.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sn37.clock import picked_up
from sn37.competition import Competition, Epsilon
from sn37.errors import ConfigError
from sn37.incentive import Contender, beats
from sn37.records.epochs import Epoch
from sn37.records.recall import Pick
from sn37.schedule import Schedule
from sn37.submission import Submission

__all__ = ["Limits", "Tried", "history", "kept", "pick", "sort_out"]


@dataclass(frozen=True)
class Limits:
    """How many models are looked at (protocol, section 1).

    kept: models kept from one epoch to the next; remembered: results kept in mind per submission;
    recheck_blocks: blocks before a model that others weight is evaluated again; per_competition, beyond:
    the most models waiting or under evaluation at once are per_competition x competitions + beyond.
    """

    kept: int = 3
    remembered: int = 3
    recheck_blocks: int = 1_200
    per_competition: int = 3
    beyond: int = 7

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 0 if name in ("recheck_blocks", "beyond") else 1
            if value < least:
                raise ConfigError(f"{name} is {value}; expected {least} or more")

    def evaluated(self, competitions: int) -> int:
        """The most models waiting or under evaluation at once."""
        return self.per_competition * competitions + self.beyond


@dataclass(frozen=True)
class Tried:
    """One earlier result of a submission. score: inf when the model failed; winner: who won that epoch."""

    sync_block: int
    score: float
    winner: Contender | None


Key = tuple[str, int, str]


def _key(hotkey: str, block: int, text: str) -> Key:
    return hotkey, block, text


def history(epochs: Iterable[Epoch], remembered: int = 3) -> dict[Key, tuple[Tried, ...]]:
    """The last results of every submission, oldest first, folded over a competition's decided epochs."""
    seen: dict[Key, tuple[Tried, ...]] = {}
    for epoch in epochs:
        entries = [_contender(entry) for entry in epoch.decision["scores"]]
        winner = next((c for c in entries if c.hotkey == epoch.decision["winner"]), None)
        for contender, entry in zip(entries, epoch.decision["scores"], strict=True):
            key = _key(entry["hotkey"], entry["block"], entry["text"])
            seen[key] = (*seen.get(key, ()), Tried(epoch.sync_block, contender.score, winner))[-remembered:]
    return seen


def _contender(entry: Mapping[str, Any]) -> Contender:
    score = math.inf if entry["score"] is None else entry["score"]
    return Contender(entry["hotkey"], entry["uid"], entry["block"], score)


def kept(last: Epoch | None, average: Mapping[str, float], count: int) -> list[Key]:
    """The submissions kept from the last epoch: its winner always, then by weight, then win rate."""
    if last is None:
        return []
    decision = last.decision
    alive = [entry for entry in decision["scores"] if entry["score"] is not None]
    rate = decision["win_rate"]

    def rank(entry: Mapping[str, object]) -> tuple[bool, float, float, object, object]:
        hotkey = str(entry["hotkey"])
        won = hotkey == decision["winner"]
        return not won, -average.get(hotkey, 0.0), -rate.get(hotkey, 0.0), entry["block"], entry["uid"]

    return [_key(e["hotkey"], e["block"], e["text"]) for e in sorted(alive, key=rank)[:count]]


def sort_out(
    submissions: Iterable[Submission], competition: Competition, schedule: Schedule, sync_block: int
) -> tuple[list[Submission], list[Pick]]:
    """Split the submissions: those that may take part in the competition now, and the rest with the reason.

    Submissions to other competitions appear in neither list.
    """
    able: list[Submission] = []
    unable: list[Pick] = []
    for submission in submissions:
        if submission.model is None:
            unable.append(Pick(submission, False, submission.fault))
            continue
        wanted = submission.model.competition_id
        wanted = schedule.default_id if wanted is None else wanted
        if wanted != competition.id:
            if schedule.competition(wanted, sync_block) is None:
                unable.append(Pick(submission, False, f"competition {wanted} is not scheduled at block {sync_block}"))
            continue
        delay = competition.constraints.delay_blocks
        if schedule.competition(wanted, submission.block) is None:
            reason = f"competition {wanted} was not scheduled at the commitment's block {submission.block}"
            unable.append(Pick(submission, False, reason))
        elif not picked_up(submission.block, delay, sync_block):
            reason = f"committed too late: block {submission.block} + delay {delay} > sync block {sync_block}"
            unable.append(Pick(submission, False, reason))
        else:
            able.append(submission)
    return able, unable


def pick(
    able: Sequence[Submission],
    past: Mapping[Key, tuple[Tried, ...]],
    stay: Sequence[Key],
    weighted_by_others: Collection[str],
    epsilon: Epsilon,
    sync_block: int,
    *,
    most: int,
    limits: Limits,
) -> list[Pick]:
    """Which of the able submissions are evaluated: kept, then new (oldest first), retries, others' favourites.

    able: from `sort_out`; past: from `history`; stay: from `kept`; weighted_by_others: hotkeys that
    large validators weight; most: the limit of models in one epoch. Every able submission appears once.
    """
    groups: dict[str, list[Submission]] = {"kept": [], "new": [], "again": [], "weighted by others": []}
    idle: list[Pick] = []
    for submission in sorted(able, key=lambda s: (s.block, s.uid)):
        key = _key(submission.hotkey, submission.block, submission.text)
        tried = past.get(key, ())
        if key in stay:
            groups["kept"].append(submission)
        elif not tried:
            groups["new"].append(submission)
        elif _due(submission, tried, epsilon, sync_block):
            groups["again"].append(submission)
        elif submission.hotkey in weighted_by_others and sync_block - tried[-1].sync_block >= limits.recheck_blocks:
            groups["weighted by others"].append(submission)
        else:
            idle.append(Pick(submission, False, _idle_reason(tried)))
    order = {key: rank for rank, key in enumerate(stay)}
    groups["kept"].sort(key=lambda s: order[_key(s.hotkey, s.block, s.text)])
    ranked = [(submission, why) for why, group in groups.items() for submission in group]
    chosen = [Pick(submission, True, why) for submission, why in ranked[:most]]
    waiting = [Pick(submission, False, f"waits: {most} models an epoch, {why}") for submission, why in ranked[most:]]
    return chosen + waiting + idle


def _due(submission: Submission, tried: Sequence[Tried], epsilon: Epsilon, now: int) -> bool:
    last = tried[-1]
    if not math.isfinite(last.score):
        return sum(not math.isfinite(t.score) for t in tried) == 1
    if last.winner is None or last.winner.hotkey == submission.hotkey or last.score > last.winner.score:
        return False
    me = Contender(submission.hotkey, submission.uid, submission.block, last.score)
    return beats(me, last.winner, epsilon, now)


def _idle_reason(tried: Sequence[Tried]) -> str:
    if not math.isfinite(tried[-1].score):
        return "failed twice: not tried again until the submission changes"
    return f"evaluated at sync block {tried[-1].sync_block} and did not win: not tried again until it could"
