"""The public competitions and their schedule, as TOML, and the reader of such files."""

from __future__ import annotations

from sn37.competitions.public import public, public_competitions, public_schedule
from sn37.competitions.reader import read_competition

__all__ = [
    "public",
    "public_competitions",
    "public_schedule",
    "read_competition",
]
