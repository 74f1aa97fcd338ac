"""What all figures share: style, room for rows, names that fit, shades and lines that can be told apart in grey.

Shades differ in lightness too, lines in marker and dash, so that all of them can be read in grey and by the
colour-blind. Knows nothing of what is drawn.
"""

from __future__ import annotations

import functools
import io
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec

if TYPE_CHECKING:
    import numpy
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray
    from pandas import DataFrame

__all__ = [
    "as_html",
    "axes",
    "beside",
    "blocks",
    "cells",
    "legend_beside",
    "line",
    "models_down",
    "names",
    "say",
    "shades",
    "short",
    "size",
    "style",
    "styled",
    "title",
]

P = ParamSpec("P")
Drawn = Callable[Concatenate["DataFrame", P], "Axes"]

STYLE = Path(__file__).with_name("sn37.mplstyle")
"""The style sheet of every figure."""

_MARKERS = "osD^vP*X<>ph"
_DASHES = ("-", "--", "-.", ":")
_MAX_LABEL = 28


def style() -> AbstractContextManager[None]:
    """A context in which figures look like these: `with figures.style(): ...`."""
    import matplotlib.style
    from matplotlib import pyplot

    # Loads a notebook's backend before the context, which would undo what it sets.
    pyplot.draw_if_interactive()  # type: ignore[no-untyped-call]
    return matplotlib.style.context(STYLE)


def styled(draw: Drawn[P]) -> Drawn[P]:
    """The function, drawing in the style of this module."""

    @functools.wraps(draw)
    def styled(frame: DataFrame, /, *args: P.args, **kwargs: P.kwargs) -> Axes:
        with style():
            return draw(frame, *args, **kwargs)

    return styled


def axes(ax: Axes | None, rows: int, width: float = 7.5) -> Axes:
    """The axes given, or those of a new figure with room for so many rows."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    _, new = pyplot.subplots(figsize=(width, 1.2 + 0.28 * max(rows, 4)))
    return new


def title(ax: Axes, title: str, xlabel: str) -> None:
    """A title, and what the horizontal axis shows."""
    ax.set_title(title)
    ax.set_xlabel(xlabel)


def models_down(ax: Axes, names: Sequence[str]) -> None:
    """One row a model, the first on top."""
    ax.set_yticks(range(len(names)), names, fontsize=size(len(names)))
    ax.set_ylim(len(names) - 0.5, -0.5)


def names(frame: DataFrame) -> list[str]:
    """Each row's label: its uid and its repo."""
    return [f"uid {uid}  {short(str(repo))}" for uid, repo in frame[["uid", "repo"]].itertuples(index=False)]


def short(text: str, most: int = _MAX_LABEL) -> str:
    """The text, cut in the middle where it is too long: both ends of a name tell."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[: most - 1 - half]}…{text[-half:]}"


def beside(ax: Axes, row: float, text: str, *ends: float) -> None:
    """A text to the right of what lies between these ends in a row."""
    ax.annotate(text, (max(ends), row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)


def size(rows: int) -> float:
    """Size of a row's text: smaller the more rows there are."""
    return 8.5 if rows <= 24 else 6.5


def cells(table: NDArray[numpy.float64]) -> Iterator[tuple[tuple[int, int], float]]:
    """((row, column), value) of every cell."""
    for row, values in enumerate(table):
        yield from (((row, column), float(value)) for column, value in enumerate(values))


def shades(count: int) -> list[tuple[float, float, float, float]]:
    """So many colours that differ in lightness too, from dark to light."""
    import matplotlib

    return [matplotlib.colormaps["cividis"](0.12 + 0.86 * index / max(count - 1, 1)) for index in range(count)]


def line(ax: Axes, index: int, count: int, x: ArrayLike, y: ArrayLike, label: str) -> None:
    """A line told apart by shade, dash and marker; a marker at each twelfth of it."""
    (line,) = ax.plot(x, y, label=label, color=shades(count + 1)[index])
    line.set(linestyle=_DASHES[index // 3 % 4], marker=_MARKERS[index % 12], markevery=0.08)


def blocks(ax: Axes, blocks: Iterable[float]) -> None:
    """A few whole blocks on the axis."""
    found = sorted({int(block) for block in blocks})
    ax.set_xticks(found if len(found) <= 6 else found[:: -(-len(found) // 6)])
    ax.xaxis.set_major_formatter(lambda block, _: f"{int(block):,}")


def as_html(ax: Axes) -> str:
    """The axes' figure as an image inside a page; the figure is closed."""
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    figure, png = ax.get_figure(), io.BytesIO()
    assert isinstance(figure, Figure)
    figure.savefig(png, format="png", bbox_inches="tight")
    pyplot.close(figure)
    return f'<img alt="" src="data:image/png;base64,{b64encode(png.getvalue()).decode()}">'


def legend_beside(ax: Axes) -> None:
    """The legend to the right of the axes, where it hides nothing."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))


def say(ax: Axes, text: str) -> Axes:
    """A sentence in place of a figure."""
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
    return ax
