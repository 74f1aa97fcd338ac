"""From scores to weights: the reign and its winner, who beats whom, the moving average, the weights.

Pure. Protocol, section 8. Scores are losses: lower is better. Everything follows the hotkey, never
the uid; the uid only breaks the last tie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sn37.competition import Epsilon

__all__ = [
    "ALPHA",
    "MIN_SHARE",
    "Challenge",
    "Contender",
    "FirstWin",
    "Reign",
    "beats",
    "competition_weights",
    "first_reign",
    "first_win",
    "margin",
    "moving_average",
    "needed",
    "reign",
    "subnet_weights",
    "win_rates",
    "wins",
]

ALPHA = 0.90
"""The old value's share in the moving average of weights (protocol, section 1)."""

MIN_SHARE = 0.18
"""The share of a competition below which a miner gets nothing (protocol, section 1)."""


@dataclass(frozen=True)
class Contender:
    """One evaluated submission."""

    hotkey: str
    """Who committed it."""
    uid: int
    """The uid of the hotkey at the sync block."""
    block: int
    """The block of the commitment as it stands on the chain."""
    score: float
    """The loss, 0 or more, lower is better; inf or nan where there is none."""

    def __post_init__(self) -> None:
        if self.score < 0:
            raise ValueError(f"the score of {self.hotkey} is {self.score!r}; a loss is 0 or more")


@dataclass(frozen=True)
class Challenge:
    """One contender's turn in a reign."""

    contender: Contender
    """Whose turn it is."""
    incumbent: Contender | None
    """Who reigns until then, None before the first."""
    needed: float
    """The contender takes over if its score is strictly below this; inf for the first."""
    convinces: bool = True
    """Whether it is better beyond chance, where a competition asks for that."""

    @property
    def succeeds(self) -> bool:
        """Whether the contender takes over."""
        return self.contender.score < self.needed and self.convinces


@dataclass(frozen=True)
class Reign:
    """Who reigned, in the order of commitments, and who wins."""

    challenges: tuple[Challenge, ...]
    """The turn of every contender with a finite score, in order."""

    @property
    def takeovers(self) -> tuple[Challenge, ...]:
        """The challenges that succeeded."""
        return tuple(challenge for challenge in self.challenges if challenge.succeeds)

    @property
    def winner(self) -> str | None:
        """The hotkey that reigns at the end; None when nobody has a finite score."""
        return next((turn.contender.hotkey for turn in reversed(self.challenges) if turn.succeeds), None)


def reign(
    contenders: Iterable[Contender],
    epsilon: Epsilon,
    now: int,
    convinces: Callable[[Contender, Contender], bool] = lambda contender, incumbent: True,
) -> Reign:
    """Play the reign at sync block `now`: oldest commitment first, then the lower score, then the lower uid.

    The first contender reigns. A later one takes over if its score is strictly below the incumbent's
    score times `1 - epsilon(now, the incumbent's block)`; one of the same block never does. convinces: says of a
    contender and the incumbent whether the first is better beyond chance, which a competition may ask for besides.

    >>> from sn37.competition import Fixed
    >>> old, near, new = Contender("old", 0, 10, 2.0), Contender("near", 1, 20, 1.99), Contender("better", 2, 30, 1.9)
    >>> reign([near, new, old], Fixed(0.01), 360).winner
    'better'
    """
    challenges: list[Challenge] = []
    incumbent: Contender | None = None
    for contender in _finite(contenders):
        # One of the incumbent's own block comes after it for its score is no lower, so it never takes over.
        if incumbent is None:
            challenge = Challenge(contender, None, math.inf)
        else:
            challenge = Challenge(
                contender, incumbent, needed(incumbent, epsilon, now), convinces(contender, incumbent)
            )
        challenges.append(challenge)
        if challenge.succeeds:
            incumbent = contender
    return Reign(tuple(challenges))


def needed(incumbent: Contender, epsilon: Epsilon, now: int) -> float:
    """The loss that a later commitment must be strictly below at block `now` to take over from `incumbent`."""
    return incumbent.score * (1 - epsilon.at(now, incumbent.block))


def beats(i: Contender, j: Contender, epsilon: Epsilon, now: int) -> bool:
    """Whether `i` beats `j` at sync block `now`: for leaderboards, it decides nothing.

    The earlier commitment's loss is multiplied by `1 - epsilon(now, its block)`, then the strictly
    lower loss wins; equal blocks give no advantage to either.
    """
    mine, theirs = _with_advantage(i, j, epsilon, now)
    return mine < theirs


def margin(i: Contender, j: Contender, epsilon: Epsilon, now: int) -> float:
    """`i`'s loss less `j`'s with the earlier one's advantage, as `beats` compares them: below 0 `i` wins."""
    mine, theirs = _with_advantage(i, j, epsilon, now)
    return mine - theirs


def _with_advantage(i: Contender, j: Contender, epsilon: Epsilon, now: int) -> tuple[float, float]:
    """Both losses, the earlier commitment's multiplied by `1 - epsilon(now, its block)`."""
    mine = needed(i, epsilon, now) if i.block < j.block else i.score
    theirs = needed(j, epsilon, now) if j.block < i.block else j.score
    return mine, theirs


@dataclass(frozen=True)
class FirstWin:
    """When a contender beats another one, if neither's score changes."""

    block: int | None
    """The first block at which it does; None for never."""
    why: str
    """Why never, in a clause about the contender ("its loss ..."); "" where there is such a block."""


def first_win(i: Contender, j: Contender, epsilon: Epsilon, since: int) -> FirstWin:
    """The first block from `since` on at which `i` beats `j`: the epsilon of the earlier one decays with its age.

    Exact: `beats` says yes at this block and no at the one before. A later `i` needs only to wait; an earlier
    one loses its own advantage with time, so it beats `j` at once or never.

    >>> from sn37.competition import LinearDecay
    >>> old, new = Contender("old", 0, 1_000, 2.0), Contender("new", 1, 1_200, 1.95)
    >>> first_win(new, old, LinearDecay(0.05, 0.01, 1_000), since=1_200).block
    1626
    """
    if beats(i, j, epsilon, since):
        return FirstWin(since, "")
    if not math.isfinite(i.score):
        return FirstWin(None, "it has no score")
    if i.block < j.block:
        return FirstWin(None, "it was committed earlier, and its own advantage only shrinks with time")
    lost, won = since, j.block + epsilon.decay_blocks
    if not beats(i, j, epsilon, max(lost, won)):
        if i.score >= j.score:
            return FirstWin(None, f"its loss {i.score:.6g} is not below {j.score:.6g}")
        least = needed(j, epsilon, max(lost, won))
        return FirstWin(None, f"its loss {i.score:.6g} is not below {least:.6g}: epsilon stays at {epsilon.final:g}")
    # Every operation of `needed` is monotone also as rounded, so there is one block from which on `i` beats `j`.
    while won - lost > 1:
        middle = (lost + won) // 2
        lost, won = (lost, middle) if beats(i, j, epsilon, middle) else (middle, won)
    return FirstWin(won, "")


def first_reign(
    hotkey: str,
    contenders: Iterable[Contender],
    epsilon: Epsilon,
    since: int,
    convinces: Callable[[Contender, Contender], bool] = lambda contender, incumbent: True,
) -> int | None:
    """The first block from `since` on at which `hotkey` wins the reign, if nobody's score changes; None for never.

    convinces: as `reign` takes it.
    """
    field = _finite(contenders)
    # A reign is made of duels of a later with an earlier one, so it changes only where one of these is first won.
    duels = (first_win(i, j, epsilon, since).block for place, i in enumerate(field) for j in field[:place])
    turns = sorted({since, *(block for block in duels if block is not None)})
    return next((now for now in turns if reign(field, epsilon, now, convinces).winner == hotkey), None)


def wins(contenders: Iterable[Contender], epsilon: Epsilon, now: int) -> dict[str, int]:
    """How many of the others each contender with a finite score beats at `now`, by hotkey."""
    finite = _finite(contenders)
    return {i.hotkey: sum(beats(i, j, epsilon, now) for j in finite if j is not i) for i in finite}


def win_rates(won: Mapping[str, int]) -> dict[str, float]:
    """wins / opponents, in [0, 1], by hotkey; who stands alone has 1. won: as `wins` counts."""
    opponents = len(won) - 1
    return {hotkey: count / opponents if opponents else 1.0 for hotkey, count in won.items()}


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
    average: Mapping[str, float], registered: Collection[str], winners: Sequence[str], min_share: float = MIN_SHARE
) -> dict[str, float]:
    """The weights of one competition: the average over registered hotkeys, small shares cut, renormalized.

    Where no share reaches `min_share`, the largest gets all. winners: the hotkeys that won, oldest epoch first:
    a tie for the largest goes to who won last. Sums to 1; empty only when no registered hotkey has ever won.
    """
    present = {hotkey: weight for hotkey, weight in average.items() if hotkey in registered}
    total = math.fsum(present.values())
    kept = {hotkey: weight for hotkey, weight in present.items() if total > 0 and weight / total >= min_share}
    if present and not kept:
        last_win = {hotkey: place for place, hotkey in enumerate(winners)}
        largest = max(sorted(present), key=lambda hotkey: (present[hotkey], last_win.get(hotkey, -1)))
        return {largest: 1.0}
    return _normalized(kept)


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


def _finite(contenders: Iterable[Contender]) -> list[Contender]:
    """Those with a finite score, in the order of the reign."""
    finite = [contender for contender in contenders if math.isfinite(contender.score)]
    return sorted(finite, key=lambda c: (c.block, c.score, c.uid))
