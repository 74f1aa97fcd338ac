"""How a training went: its losses and scores by step, as a value that a figure is drawn of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from transformers import TrainerState

__all__ = ["History", "Point", "Refusal"]


@dataclass(frozen=True)
class Point:
    """A number after a step."""

    step: int
    """The step, 0 before the first one."""
    value: float
    """The number."""


@dataclass(frozen=True)
class Refusal:
    """A model that has no score."""

    step: int
    """After how many steps."""
    reason: str
    """The rule it breaks."""


@dataclass(frozen=True)
class History:
    """The course of a training so far. Losses and scores: lower is better."""

    steps: int
    """How many steps there are to be."""
    losses: tuple[Point, ...] = ()
    """The mean loss of each step's rows, in nats, by the weights of their tasks."""
    scores: tuple[Point, ...] = ()
    """The competition's score on the held-out samples."""
    refusals: tuple[Refusal, ...] = ()
    """Where the model had none."""

    @classmethod
    def of(cls, state: TrainerState) -> History:
        """What transformers has logged."""

        def logged(name: str) -> list[tuple[int, Any]]:
            return [(int(entry["step"]), entry[name]) for entry in state.log_history if name in entry]

        return cls(
            state.max_steps,
            tuple(Point(step, loss) for step, loss in logged("loss")),
            tuple(Point(step, score) for step, score in logged("eval_score")),
            tuple(Refusal(step, reason) for step, reason in logged("eval_refusal")),
        )

    def __repr__(self) -> str:
        parts = [f"{len(self.losses)} of {self.steps} steps"]
        if self.losses:
            parts.append(f"loss {self.losses[-1].value:.4f}")
        if self.best:
            parts.append(f"best score {self.best.value:.4f} after step {self.best.step}")
        return ", ".join(parts)

    @property
    def best(self) -> Point | None:
        """The lowest score, the first of equal ones."""
        return min(self.scores, key=lambda point: point.value, default=None)

    @property
    def fruitless(self) -> int:
        """How many models in a row, up to the newest, were not better than the best one."""
        best = self.best.step if self.best else -1
        return sum(step > best for step in [one.step for one in self.scores] + [one.step for one in self.refusals])

    def plot(self) -> Figure:
        """The figure of it: each step's loss, and the score it is all about, by step."""
        from matplotlib import pyplot

        from sn37.analysis import figures

        with figures.style():
            figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(7.5, 4.2))
            above.plot(*_columns(self.losses), color="0.45", linewidth=0.9)
            above.set_ylabel("loss (nats)")
            above.set_title("a training: lower is better")
            below.plot(*_columns(self.scores), "o-", color="black", markersize=4)
            if self.best:
                below.axhline(self.best.value, color="0.6", linestyle="--", linewidth=0.8)
                below.set_title(f"best {self.best.value:.4f}, after step {self.best.step}", fontsize=9, loc="right")
            below.set_ylabel("score (held out)")
            below.set_xlabel("step")
            below.set_xlim(0, self.steps)
        return figure


def _columns(points: Sequence[Point]) -> tuple[list[int], list[float]]:
    return [point.step for point in points], [point.value for point in points]
