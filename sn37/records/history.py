"""What a competition's decided epochs say of its submissions: who won, what each was measured at.

A fold over records. Everything follows the hotkey and the text of its commitment, whatever the block: who commits
the same text again neither wipes a failure nor makes a new model of an old one. Decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sn37 import incentive
from sn37.records.decision import Decision

__all__ = ["History", "Key", "Tried", "history_of"]

Key = tuple[str, str]
"""A submission, whatever the block it was committed at: its hotkey and its text."""


@dataclass(frozen=True)
class Tried:
    """One result of a submission."""

    sync_block: int
    """The epoch's sync block."""
    score: float
    """The loss, lower is better; inf where the model failed by its own fault."""

    @property
    def failed(self) -> bool:
        """Whether the model failed by its own fault."""
        return not math.isfinite(self.score)


@dataclass(frozen=True)
class History:
    """The decided epochs of one competition, in the order of their sync blocks, folded."""

    winners: tuple[str, ...] = ()
    """The hotkey that won, of every epoch that had a winner, oldest first."""
    incumbent: Key | None = None
    """The submission that won last; None where nobody has won yet."""
    tried: Mapping[Key, tuple[Tried, ...]] = field(default_factory=dict)
    """The last results of every submission, oldest first."""

    def average(self, alpha: float) -> dict[str, float]:
        """The moving average of the competition's weights by hotkey. alpha: the old value's share."""
        average: dict[str, float] = {}
        for winner in self.winners:
            average = incentive.moving_average(average, winner, alpha)
        return average


def history_of(decisions: Iterable[Decision], remembered: int) -> History:
    """The history that these decisions make, in their order. remembered: results kept in mind per submission."""
    winners: list[str] = []
    incumbent: Key | None = None
    tried: dict[Key, tuple[Tried, ...]] = {}
    for decision in decisions:
        for score in decision.scores:
            key = score.hotkey, score.text
            loss = math.inf if score.score is None else score.score
            tried[key] = (*tried.get(key, ()), Tried(decision.sync_block, loss))[-remembered:]
        if decision.best is not None:
            winners.append(decision.best.hotkey)
            incumbent = decision.best.hotkey, decision.best.text
    return History(tuple(winners), incumbent, tried)
