"""The public competitions of the live subnet and the schedule that says which run when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sn37.competition import Competition
from sn37.competitions.reader import parse_toml, read_competition, read_text
from sn37.documents import parse
from sn37.errors import ConfigError
from sn37.schedule import Period, Schedule, Share

__all__ = ["public", "public_competitions", "public_schedule", "read_schedule", "scheduled"]

_FOLDER = Path(__file__).parent
_SCHEDULE = "schedule.toml"


@cache
def public_competitions() -> tuple[Competition, ...]:
    """Every public competition, scheduled or not, in the order of ids; one with two weightings appears twice."""
    files = sorted(path for path in _FOLDER.glob("*.toml") if path.name != _SCHEDULE)
    return tuple(sorted((_read(path.name) for path in files), key=lambda competition: competition.id))


@cache
def public_schedule() -> Schedule:
    """The schedule of the live subnet (protocol, section 4)."""
    return read_schedule(_FOLDER / _SCHEDULE)


@dataclass(frozen=True)
class _Period:
    """A period as a schedule file has it: competition files and their shares."""

    from_block: int
    shares: dict[str, float]


@dataclass(frozen=True)
class _Document:
    """A schedule file."""

    default_id: int
    periods: list[_Period]


def read_schedule(path: Path) -> Schedule:
    """A schedule file; the competition files it names lie beside it. Raises ConfigError."""
    where = path.name
    document = parse(_Document, parse_toml(read_text(path, where), where), where)
    periods = []
    for number, period in enumerate(document.periods):
        shares = [Share(read_competition(path.parent / name), share) for name, share in period.shares.items()]
        try:
            periods.append(Period(period.from_block, tuple(sorted(shares, key=lambda s: s.competition.id))))
        except ValueError as error:
            raise ConfigError(f"{where}: periods[{number}]: {error}") from None
    try:
        return Schedule(tuple(periods), document.default_id)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def public(name: str, block: int | None = None) -> Competition:
    """The public competition `name` as it runs at `block` (the newest weighting by default).

    Where it does not run at that block: as it last ran before it, or else as it first will, or else,
    never scheduled, as its file says. Raises ConfigError listing the names on an unknown one.
    """
    found = [competition for competition in public_competitions() if competition.name == name]
    if not found:
        names = ", ".join(dict.fromkeys(competition.name for competition in public_competitions()))
        raise ConfigError(f"unknown public competition {name!r}; expected one of {names}")
    return scheduled(public_schedule(), name, block) or found[0]


def scheduled(schedule: Schedule, name: str, block: int | None = None) -> Competition | None:
    """The competition `name` as it runs at `block`, last ran before it, or first will; None for never."""
    runs = [
        (period.from_block, share.competition)
        for period in schedule.periods
        for share in period.shares
        if share.competition.name == name
    ]
    before = [competition for start, competition in runs if block is None or start <= block]
    return before[-1] if before else runs[0][1] if runs else None


@cache
def _read(name: str) -> Competition:
    return read_competition(_FOLDER / name, name)
