"""The protocol's figures that a subnet of one's own may change (protocol, section 1), checked when made."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sn37.errors import ConfigError
from sn37.incentive import ALPHA, MIN_SHARE

__all__ = ["Figures", "SelectionLimits"]


@dataclass(frozen=True)
class Figures:
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

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < 1:
            raise ConfigError(f"alpha is {self.alpha}; expected a share in [0, 1)")
        for name in ("min_share", "top_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a share in [0, 1]")
        if not (self.large_stake >= 0 and self.refresh_blocks >= 1):
            raise ConfigError(
                f"large_stake and refresh_blocks are {self.large_stake} and {self.refresh_blocks}; "
                "expected 0 or more, and 1 or more"
            )


@dataclass(frozen=True)
class SelectionLimits:
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

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 0 if name in ("recheck_blocks", "beyond") else 1
            if value < least:
                raise ConfigError(f"{name} is {value}; expected {least} or more")

    def evaluated(self, competitions: int) -> int:
        """The most models waiting or under evaluation at once."""
        return self.per_competition * competitions + self.beyond
