"""Which competitions run at a block, with which share of the emission; a validator's own funding.

Pure: files are read by `sn37.competitions`. Protocol, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sn37.competition import Competition
from sn37.html import table

__all__ = ["PUBLIC", "Period", "Schedule", "Share", "fund"]

PUBLIC = "public"
"""The funding item that stands for the schedule's own split."""

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Share:
    """A competition and the share of the emission it gets."""

    competition: Competition
    """As it runs then."""
    share: float
    """Its share of the emission, in (0, 1]."""


@dataclass(frozen=True)
class Period:
    """The split that holds from block `from_block` until the next period begins."""

    from_block: int
    """The first block it holds at."""
    shares: tuple[Share, ...]
    """They sum to 1, and no two have the same competition id."""

    def __post_init__(self) -> None:
        _check(f"the schedule from block {self.from_block}", self.shares)


@dataclass(frozen=True)
class Schedule:
    """What runs when."""

    periods: tuple[Period, ...]
    """In the order of their blocks."""
    default_id: int = 1
    """The competition of submissions in the legacy form, which name none."""

    def __post_init__(self) -> None:
        starts = [period.from_block for period in self.periods]
        if not starts or starts != sorted(set(starts)):
            raise ValueError(f"a schedule needs periods with rising blocks, got {starts}")

    def __repr__(self) -> str:
        newest = ", ".join(f"{each.competition.name} {each.share:g}" for each in self.periods[-1].shares)
        return f"schedule of {len(self.periods)} periods; from block {self.periods[-1].from_block} on: {newest}"

    def _repr_html_(self) -> str:
        rows = [
            (period.from_block, each.competition.id, each.competition.name, f"{each.share:g}")
            for period in self.periods
            for each in period.shares
        ]
        return table(("from block", "id", "competition", "share"), rows)

    def at(self, block: int) -> tuple[Share, ...]:
        """The split at `block`, in the order of competition ids; empty before the first period."""
        current = [period for period in self.periods if period.from_block <= block]
        shares = current[-1].shares if current else ()
        return tuple(sorted(shares, key=lambda share: share.competition.id))

    def competition(self, competition_id: int, block: int) -> Competition | None:
        """The competition with that id as it runs at `block`, or None."""
        return next((s.competition for s in self.at(block) if s.competition.id == competition_id), None)

    def funded(self, funding: Mapping[Competition | str, float]) -> Schedule:
        """This schedule with a validator's own split in place of the public one, in every period."""
        periods = tuple(Period(p.from_block, fund(funding, p.shares)) for p in self.periods)
        return Schedule(periods, self.default_id)


def fund(funding: Mapping[Competition | str, float], public: tuple[Share, ...]) -> tuple[Share, ...]:
    """The split of one validator: its shares over competitions and `"public"`.

    A competition funded both by itself and within `"public"` gets the sum. Raises ValueError when
    the shares do not sum to 1, or two different competitions claim one id.
    """
    total = math.fsum(funding.values())
    if not abs(total - 1) <= _TOLERANCE:
        raise ValueError(f"the funding shares sum to {total:g}; expected 1")
    if not all(share > 0 for share in funding.values()):
        raise ValueError("every funding share must be above 0")
    parts: list[Share] = []
    for item, share in funding.items():
        if isinstance(item, Competition):
            parts.append(Share(item, share))
        elif item == PUBLIC:
            parts.extend(Share(part.competition, part.share * share) for part in public)
        else:
            raise ValueError(f"unknown funding item {item!r}; expected a competition or {PUBLIC!r}")
    merged: dict[int, Share] = {}
    for part in parts:
        known = merged.get(part.competition.id)
        if known is not None and known.competition.digest != part.competition.digest:
            raise ValueError(
                f"competition id {part.competition.id} is used twice: "
                f"by {known.competition.name} and by {part.competition.name}"
            )
        merged[part.competition.id] = Share(part.competition, part.share + (known.share if known else 0.0))
    shares = tuple(merged[competition_id] for competition_id in sorted(merged))
    _check("the funding", shares)
    return shares


def _check(what: str, shares: tuple[Share, ...]) -> None:
    ids = [share.competition.id for share in shares]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{what} uses a competition id twice: {ids}")
    total = math.fsum(share.share for share in shares)
    if not abs(total - 1) <= _TOLERANCE or not all(share.share > 0 for share in shares):
        raise ValueError(f"the shares of {what} sum to {total:g}; expected positive shares with the sum 1")
