"""The protocol's figures that a subnet of one's own may change (protocol, section 1), checked when made."""

from __future__ import annotations

from dataclasses import dataclass

from sn37.incentive import ALPHA, MIN_SHARE
from sn37.values import Checked, Rule

__all__ = ["Figures", "SelectionLimits"]


@dataclass(frozen=True)
class Figures(Checked):
    """From scores to weights, and whose weights are looked at."""

    alpha: float = ALPHA
    """The old value's share in the moving average, in [0, 1)."""
    min_share: float = MIN_SHARE
    """The share of a competition below which a miner gets nothing of it, in [0, 1]."""
    large_stake: float = 100_000.0
    """The stake in TAO from which another validator's weights are looked at."""
    top_share: float = 0.01
    """The share of another validator's weights that makes a miner "top" for it, in [0, 1]."""
    refresh_blocks: int = 300
    """Blocks after which unchanged weights are set again (an hour)."""

    RULES = (
        Rule("alpha", lambda share: 0 <= share < 1, "a share in [0, 1)"),
        Rule("min_share", lambda share: 0 <= share <= 1, "a share in [0, 1]"),
        Rule("top_share", lambda share: 0 <= share <= 1, "a share in [0, 1]"),
        Rule("large_stake", lambda stake: stake >= 0, "0 or more"),
        Rule("refresh_blocks", lambda blocks: blocks >= 1, "1 or more"),
    )


@dataclass(frozen=True)
class SelectionLimits(Checked):
    """How many models are evaluated in an epoch."""

    kept: int = 3
    """Models kept from one epoch of a competition to the next."""
    remembered: int = 3
    """Results kept in mind per submission."""
    recheck_blocks: int = 1_200
    """Blocks before a model that others weight is evaluated again."""
    per_competition: int = 3
    """Of the models waiting or under evaluation at once: as many for each running competition ..."""
    beyond: int = 7
    """... and as many beyond that."""

    RULES = (
        *(Rule(name, lambda number: number >= 1, "1 or more") for name in ("kept", "remembered", "per_competition")),
        *(Rule(name, lambda number: number >= 0, "0 or more") for name in ("recheck_blocks", "beyond")),
    )

    def evaluated(self, competitions: int) -> int:
        """The most models waiting or under evaluation at once."""
        return self.per_competition * competitions + self.beyond
