"""From scores to weights: who beats whom, the field, the winner, the moving average, the weights.

Pure. Protocol, section 8. Scores are losses: lower is better. Everything follows the hotkey, never
the uid; the uid only breaks the last tie.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sn37.competition import Epsilon

__all__ = [
    "ALPHA",
    "MIN_SHARE",
    "Contender",
    "Verdict",
    "beats",
    "competition_weights",
    "field",
    "judge",
    "moving_average",
    "subnet_weights",
    "wins",
]

ALPHA = 0.90
"""The old value's share in the moving average of weights (protocol, section 1)."""

MIN_SHARE = 0.18
"""The share of a competition below which a miner gets nothing (protocol, section 1)."""


@dataclass(frozen=True)
class Contender:
    """One evaluated submission. block: of its commitment; score: lower is better, inf when it failed."""

    hotkey: str
    uid: int
    block: int
    score: float

    def __post_init__(self) -> None:
        if self.score < 0:
            raise ValueError(f"the score of {self.hotkey} is {self.score!r}; a loss is 0 or more")


@dataclass(frozen=True)
class Verdict:
    """The outcome of one epoch of one competition. winner: a hotkey, or None when nobody has a finite score."""

    field: tuple[Contender, ...]
    wins: Mapping[str, int]
    win_rate: Mapping[str, float]
    winner: str | None


def beats(i: Contender, j: Contender, epsilon: Epsilon, now: int) -> bool:
    """Whether `i` beats `j` at sync block `now`.

    The earlier commitment's loss is multiplied by `1 - epsilon(now, its block)`, then the strictly
    lower loss wins; equal blocks give no advantage to either.
    """
    mine, theirs = i.score, j.score
    if i.block < j.block:
        mine *= 1 - epsilon.at(now, i.block)
    elif j.block < i.block:
        theirs *= 1 - epsilon.at(now, j.block)
    return mine < theirs


def field(contenders: Iterable[Contender], epsilon: Epsilon) -> tuple[Contender, ...]:
    """The contenders that count, in the order of commitment block, then uid.

    Out are those without a finite score and those that could not beat every earlier model even with
    epsilon at its end value: copies, near copies and hopeless ones, who would dilute the field.
    """
    finite = sorted((c for c in contenders if math.isfinite(c.score)), key=_seniority)
    kept = []
    for contender in finite:
        earlier = [c.score for c in finite if c.block < contender.block]
        if all(contender.score < score * (1 - epsilon.final) for score in earlier):
            kept.append(contender)
    return tuple(kept)


def wins(contenders: Sequence[Contender], epsilon: Epsilon, now: int) -> dict[str, int]:
    """How many of the others each contender beats at `now`, by hotkey."""
    return {i.hotkey: sum(beats(i, j, epsilon, now) for j in contenders if j is not i) for i in contenders}


def judge(contenders: Iterable[Contender], epsilon: Epsilon, now: int) -> Verdict:
    """The verdict of an epoch: the highest win rate wins; ties go to the earlier block, then the lower uid.

    The win rate is wins / opponents in the field; a lone contender has the win rate 1.
    """
    inside = field(contenders, epsilon)
    won = wins(inside, epsilon, now)
    opponents = len(inside) - 1
    rate = {hotkey: count / opponents if opponents else 1.0 for hotkey, count in won.items()}
    best = min(inside, key=lambda c: (-rate[c.hotkey], *_seniority(c)), default=None)
    return Verdict(inside, won, rate, best.hotkey if best else None)


def moving_average(old: Mapping[str, float] | None, winner: str | None, alpha: float = ALPHA) -> dict[str, float]:
    """The moving average of a competition's weights after one more epoch, by hotkey.

    Only the winner gets the weight of an epoch. The first epoch counts in full; an epoch without a
    winner changes nothing.
    """
    before = dict(old or {})
    if winner is None:
        return before
    if not before:
        return {winner: 1.0}
    after = {hotkey: alpha * weight for hotkey, weight in before.items()}
    after[winner] = after.get(winner, 0.0) + (1 - alpha)
    return after


def competition_weights(
    average: Mapping[str, float], registered: Collection[str], min_share: float = MIN_SHARE
) -> dict[str, float]:
    """The weights of one competition: the average over registered hotkeys, small shares cut, renormalized.

    Sums to 1, or is empty when nobody is left.
    """
    present = _normalized({hotkey: weight for hotkey, weight in average.items() if hotkey in registered})
    return _normalized({hotkey: weight for hotkey, weight in present.items() if weight >= min_share})


def subnet_weights(weights: Mapping[int, Mapping[str, float]], shares: Mapping[int, float]) -> dict[str, float]:
    """The weights to set, by hotkey: the sum over competitions of share x competition weight.

    weights: competition id -> its weights; shares: competition id -> its share. Competitions that
    have no weights yet are left out and the rest is renormalized. Sums to 1, or is empty.
    """
    total: dict[str, float] = {}
    for competition_id in sorted(weights):
        for hotkey, weight in weights[competition_id].items():
            total[hotkey] = total.get(hotkey, 0.0) + shares.get(competition_id, 0.0) * weight
    return _normalized(total)


def _normalized(weights: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(weights.values())
    return {h: w / total for h, w in sorted(weights.items()) if w > 0} if total > 0 else {}


def _seniority(contender: Contender) -> tuple[int, int]:
    return contender.block, contender.uid
