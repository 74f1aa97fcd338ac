"""Tables as HTML, for the objects that show themselves in Jupyter. Pure; every text in them is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["table"]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Rows of cells under named columns, none where there are no names.

    None is shown as "-", a truth value as "yes" or nothing, a float with four decimals, all else as its text.

    >>> table(["uid", "loss"], [(3, 2.5), (4, None)])
    '<table><thead><tr><th>uid</th><th>loss</th></tr></thead><tbody><tr><td>3</td><td>2.5000</td></tr>...
    """
    head = f"<thead>{_row('th', columns)}</thead>" if columns else ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}{head}<tbody>{''.join(_row('td', row) for row in rows)}</tbody></table>"


def _row(tag: str, cells: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(_text(cell))}</{tag}>" for cell in cells) + "</tr>"


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else ""
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
