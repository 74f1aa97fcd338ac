"""The public competitions and their schedule, as TOML, and the reader of such files."""

from __future__ import annotations

from sn37.competitions.funding import funded_schedule, read_funding, read_funding_file
from sn37.competitions.public import public, public_competitions, public_schedule, read_schedule
from sn37.competitions.reader import competition_from, read_competition
from sn37.competitions.tasks import code_of, load_tasks
from sn37.competitions.writer import document_of, write_competition

__all__ = [
    "code_of",
    "competition_from",
    "document_of",
    "funded_schedule",
    "load_tasks",
    "public",
    "public_competitions",
    "public_schedule",
    "read_competition",
    "read_funding",
    "read_funding_file",
    "read_schedule",
    "write_competition",
]
