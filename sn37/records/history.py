"""What a competition's decided epochs say of its submissions: who won, what each was measured at.

Everything follows the hotkey and the text of its commitment, whatever the block: who commits the same text again
neither wipes a failure nor makes a new model of an old one. Decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sn37 import incentive

__all__ = ["History", "Key", "Tried", "Win"]

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
class Win:
    """An epoch that had a winner."""

    sync_block: int
    """The epoch's sync block."""
    hotkey: str
    """The winner."""
    text: str
    """What it had committed."""
    uid: int
    """Its uid then."""


@dataclass(frozen=True)
class History:
    """The decided epochs of one competition, in the order of their sync blocks, folded."""

    wins: tuple[Win, ...] = ()
    """The epochs that had a winner, oldest first."""
    tried: Mapping[Key, tuple[Tried, ...]] = field(default_factory=dict)
    """The last results of every submission, oldest first."""

    @property
    def winners(self) -> tuple[str, ...]:
        """The hotkeys that won, oldest first."""
        return tuple(win.hotkey for win in self.wins)

    @property
    def incumbent(self) -> Key | None:
        """The submission that won last; None where nobody has won yet."""
        return (self.wins[-1].hotkey, self.wins[-1].text) if self.wins else None

    def average(self, alpha: float) -> dict[str, float]:
        """The moving average of the competition's weights by hotkey. alpha: the old value's share."""
        average: dict[str, float] = {}
        for win in self.wins:
            average = incentive.moving_average(average, win.hotkey, alpha)
        return average
