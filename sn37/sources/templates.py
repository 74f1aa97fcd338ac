"""Text templates over a row's columns: `{question}`, `{messages[0][content]}`, `{{` and `}}` for braces.

Only a column, then list positions and field names, may be named: no attribute, no format, no code, so
that templates may come from anyone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sn37.sources.base import DataRow

__all__ = ["MAX_CHARACTERS", "MAX_VALUES", "Absent", "Path", "Template"]

MAX_CHARACTERS = 400_000
"""The longest text: no sequence length has room for a longer one, and a short template could make one without end."""

MAX_VALUES = 100
"""The longest list of choices."""

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PATH = re.compile(r"([^\[\]{}]+)((?:\[[^\[\]{}]+\])*)")
_STEP = re.compile(r"\[([^\[\]]+)\]")


class Absent(LookupError):
    """A row holds nothing where a template points to, or nothing that is text."""


@dataclass(frozen=True)
class Path:
    """A place in a row: a column, then positions of lists and names of fields."""

    column: str
    """The row's column."""
    steps: tuple[str, ...] = ()
    """Positions of lists and names of fields within it, outermost first."""

    @classmethod
    def parse(cls, text: str) -> Path:
        """Read `column` or `column[0][name]`. Raises ValueError."""
        match = _PATH.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} names no column; expected column, column[0] or column[name]")
        return cls(match[1], tuple(_STEP.findall(match[2])))

    def of(self, row: DataRow) -> object:
        """The value at this place. Raises Absent."""
        value = row.get(self.column)
        for step in self.steps:
            if isinstance(value, Mapping):
                value = value.get(step)
            elif isinstance(value, list | tuple) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            else:
                value = None
        if value is None:
            raise Absent(f"no {self}")
        return value

    def __str__(self) -> str:
        return self.column + "".join(f"[{step}]" for step in self.steps)


@dataclass(frozen=True)
class Template:
    """A parsed template."""

    pieces: tuple[str | Path, ...]
    """Texts and paths in turn."""

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises ValueError naming what is wrong with the text."""
        pieces: list[str | Path] = []
        end = 0
        for match in _PIECE.finditer(text):
            pieces.append(text[end : match.start()])
            end = match.end()
            if match[0] in ("{{", "}}"):
                pieces.append(match[0][0])
            elif match[1] is None:
                raise ValueError(f"the template {text!r} has a lone {match[0]!r}; write {match[0] * 2} for a brace")
            else:
                pieces.append(Path.parse(match[1]))
        return cls((*pieces, text[end:]))

    @property
    def columns(self) -> frozenset[str]:
        """The columns it needs."""
        return frozenset(piece.column for piece in self.pieces if isinstance(piece, Path))

    def fill(self, row: DataRow) -> str:
        """The text for one row. Raises Absent where a value is missing, is a list or a table, or is too long."""
        parts: list[str] = []
        room = MAX_CHARACTERS
        for piece in self.pieces:
            parts.append(piece if isinstance(piece, str) else _text(piece, piece.of(row)))
            room -= len(parts[-1])
            if room < 0:
                raise Absent(f"a text of over {MAX_CHARACTERS} characters")
        return "".join(parts)

    def values(self, row: DataRow) -> tuple[str, ...]:
        """Several texts: the items of the list that the template consists of. Raises Absent."""
        pieces = [piece for piece in self.pieces if piece]
        value = pieces[0].of(row) if len(pieces) == 1 and isinstance(pieces[0], Path) else None
        if not isinstance(value, list | tuple):
            raise Absent(f"no list at {''.join(map(str, pieces))}")
        if len(value) > MAX_VALUES:
            raise Absent(f"a list of over {MAX_VALUES} values")
        return tuple(_text(pieces[0], item) for item in value)


def _text(place: object, value: object) -> str:
    if not isinstance(value, str | int | float):
        raise Absent(f"no text at {place}")
    text = str(value)
    if len(text) > MAX_CHARACTERS:
        raise Absent(f"a text of over {MAX_CHARACTERS} characters")
    return text
