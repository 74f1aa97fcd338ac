"""One Yuma consensus step: how validators' weights become ranks, incentive and trust.

Pure: knows nothing of blocks, keys or storage. It follows the live chain's epoch:

1. A validator votes when it holds a permit and is active; its vote counts by its stake.
2. Of its weights, those on itself are dropped, and those set no later than their target's uid was
   registered (they were meant for the uid's previous holder); the rest is normalized to 1.
3. The consensus weight of a miner is the stake-weighted median of the votes: the largest weight that
   validators with at least the share `kappa` of the voting stake support. Weights above it are clipped.
4. rank = stake-weighted sum of the clipped weights; trust = rank / the same sum before clipping;
   incentive = ranks normalized to 1; validator trust = what is left of a validator's weights after clipping.

Left out: bonds. Dividends are those of fresh bonds: each miner's incentive, divided among its
supporters by stake x clipped weight. Emission amounts, too, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["KAPPA", "Consensus", "Peer", "step", "weighted_median"]

KAPPA = Fraction(1, 2)
"""The share of the voting stake that must support a weight, as on the live chain."""


@dataclass(frozen=True)
class Peer:
    """One neuron before the step."""

    stake: int
    """In any unit."""
    permit: bool = False
    """Whether it may vote."""
    active: bool = True
    """Whether its weights are young enough to count."""
    registered: int = 0
    """The block at which its uid was registered."""
    last_update: int = 0
    """The block at which its weights were set."""
    weights: Mapping[int, int] | None = None
    """uid -> raw weight (0..65535); empty for who set none."""


@dataclass(frozen=True)
class Consensus:
    """The outcome, one number per uid. incentive and dividends sum to 1, or are all 0; the rest lies in [0, 1]."""

    rank: tuple[float, ...]
    """The stake-weighted sum of clipped weights on it."""
    trust: tuple[float, ...]
    """What clipping left of the weights on it."""
    consensus: tuple[float, ...]
    """The weight that enough stake supports."""
    incentive: tuple[float, ...]
    """Its share of the ranks."""
    validator_trust: tuple[float, ...]
    """What clipping left of its own weights."""
    dividends: tuple[float, ...]
    """Its share for supporting those with incentive."""


def weighted_median(votes: Sequence[tuple[float, int]], total: int, kappa: Fraction = KAPPA) -> float:
    """The largest weight that stake of at least `kappa * total` supports; 0 when none does.

    votes: (weight, stake) of those who weight the miner at all; total: all voting stake.
    """
    support = 0
    for weight, stake in sorted(votes, reverse=True):
        support += stake
        if total > 0 and support >= kappa * total:
            return weight
    return 0.0


def step(peers: Sequence[Peer], kappa: Fraction = KAPPA) -> Consensus:
    """The consensus of one epoch over all neurons of a subnet, in the order of their uids."""
    size = len(peers)
    stake = [peer.stake if peer.permit and peer.active else 0 for peer in peers]
    total = sum(stake)
    rows = [_votes(uid, peers) if stake[uid] > 0 else {} for uid in range(size)]
    columns: list[list[tuple[float, int]]] = [[] for _ in range(size)]
    for uid, row in enumerate(rows):
        for target, weight in row.items():
            columns[target].append((weight, stake[uid]))
    limit = [weighted_median(column, total, kappa) for column in columns]
    clipped = [{target: min(weight, limit[target]) for target, weight in row.items()} for row in rows]
    before = [_share(math.fsum(w * s for w, s in column), total) for column in columns]
    rank = [0.0] * size
    for uid, row in enumerate(clipped):
        for target, weight in row.items():
            rank[target] += weight * stake[uid] / total
    incentive = _normalized(rank)
    return Consensus(
        rank=tuple(rank),
        trust=tuple(min(1.0, _share(r, b)) for r, b in zip(rank, before, strict=True)),
        consensus=tuple(limit),
        incentive=tuple(incentive),
        validator_trust=tuple(min(1.0, math.fsum(row.values())) for row in clipped),
        dividends=tuple(_dividends(stake, clipped, rank, incentive, total)),
    )


def _votes(uid: int, peers: Sequence[Peer]) -> dict[int, float]:
    """What a validator's weights say: no self-weight, none meant for an earlier holder of a uid; sum 1."""
    me = peers[uid]
    kept = {
        target: weight
        for target, weight in (me.weights or {}).items()
        if weight > 0 and target != uid and target < len(peers) and peers[target].registered < me.last_update
    }
    total = sum(kept.values())
    return {target: weight / total for target, weight in kept.items()}


def _dividends(
    stake: Sequence[int],
    clipped: Sequence[Mapping[int, float]],
    rank: Sequence[float],
    incentive: Sequence[float],
    total: int,
) -> list[float]:
    earned = [0.0] * len(stake)
    for uid, row in enumerate(clipped):
        for target, weight in row.items():
            if rank[target] > 0:
                earned[uid] += incentive[target] * weight * stake[uid] / total / rank[target]
    return _normalized(earned)


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def _normalized(values: Sequence[float]) -> list[float]:
    total = math.fsum(values)
    return [_share(value, total) for value in values]
