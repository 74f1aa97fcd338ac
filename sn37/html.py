"""Tables as HTML, for the objects that show themselves in Jupyter. Pure; every text in them is escaped.

What is HTML already, a picture in a cell, says so: it is made a `Markup`, by the library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import Any, ClassVar

__all__ = ["Markup", "ShownByField", "ShownByValue", "table"]

_MOST = 10
"""How many values are shown of many."""


class Markup(str):
    """HTML, which a table takes as it is; everything in it is escaped already."""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Rows of cells under named columns, none where there are no names.

    None is shown as "-", a truth value as "yes" or nothing, a float with four decimals, all else as its text.

    >>> table(["uid", "loss"], [(3, 2.5), (4, None)])
    '<table><thead><tr><th>uid</th><th>loss</th></tr></thead><tbody><tr><td>3</td><td>2.5000</td></tr>...
    """
    head = f"<thead>{_row('th', columns)}</thead>" if columns else ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}{head}<tbody>{''.join(_row('td', row) for row in rows)}</tbody></table>"


class ShownByField:
    """Base of a frozen dataclass that shows itself in Jupyter as a table of its fields."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def _repr_html_(self) -> str:
        return table((), [(item.name, getattr(self, item.name)) for item in fields(self)], type(self).__name__)


class ShownByValue:
    """Base of a task's outcome, which shows its score and the first of its values, each with its details."""

    score: float
    values: tuple[float, ...]
    details: tuple[Mapping[str, object], ...]
    note: str
    samples: tuple[int, ...]

    def __repr__(self) -> str:
        return f"raw score {self.score:.4f} over {len(self.values)} values{self.note and f' ({self.note})'}"

    def _repr_html_(self) -> str:
        details = self.details or ({},) * len(self.values)
        names = list(dict.fromkeys(name for detail in details for name in detail))
        rows = [
            (place, value, *(detail.get(name) for name in names))
            for place, value, detail in zip(self.samples or range(len(self.values)), self.values, details, strict=True)
        ][:_MOST]
        return table(("sample", "loss", *names), rows, f"{self!r}; lower is better; the first {len(rows)}")


def _row(tag: str, cells: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<{tag}{_aligned(cell)}>{_text(cell)}</{tag}>" for cell in cells) + "</tr>"


def _aligned(cell: object) -> str:
    """JupyterLab sets all cells to the right, which is for numbers."""
    return ' style="text-align:left"' if isinstance(cell, str) else ""


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else ""
    if isinstance(cell, Markup):
        return cell
    return f"{cell:.4f}" if isinstance(cell, float) else escape(str(cell))
