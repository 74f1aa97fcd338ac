"""How a training is watched: a figure that changes in place in Jupyter, a bar in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sn37.evaluation.progress import bar
from sn37.miner.history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["live"]

_REDRAW_S = 2.0


@contextmanager
def live(steps: int) -> Iterator[Callable[[History], None]]:
    """Something to call with the history after each step."""
    from IPython import get_ipython

    if getattr(get_ipython(), "kernel", None) is not None:
        with _figure(steps) as show:
            yield show
    else:
        with _line(steps) as show:
            yield show


@contextmanager
def _figure(steps: int) -> Iterator[Callable[[History], None]]:
    """Redrawn as often as a person sees, and once more at the end."""
    from IPython.display import display
    from matplotlib import pyplot

    newest, drawn_at = History(steps), time.monotonic()

    def drawn() -> Figure:
        figure = newest.plot()
        pyplot.close(figure)  # or the cell would show it once more at its end
        return figure

    shown = display(drawn(), display_id=True)  # type: ignore[no-untyped-call]

    def show(history: History) -> None:
        nonlocal newest, drawn_at
        newest = history
        if time.monotonic() - drawn_at >= _REDRAW_S:
            shown.update(drawn())
            drawn_at = time.monotonic()

    yield show
    shown.update(drawn())


@contextmanager
def _line(steps: int) -> Iterator[Callable[[History], None]]:
    """A bar of steps, the newest loss, the best score; nothing where the output is no terminal."""
    with bar(steps, "step") as line:

        def show(history: History) -> None:
            if history.losses:
                best = f", best score {history.best.value:.4f}" if history.best else ""
                line.set_postfix_str(f"loss {history.losses[-1].value:.4f}{best}", refresh=False)
                line.update(history.losses[-1].step - line.n)

        yield show
