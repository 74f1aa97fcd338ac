"""What models made of tasks, as a table with intervals: the outcome of `sn37.evaluate`. Lower is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

from sn37.analysis import stats
from sn37.analysis.outcomes import score_interval, task_pairs, task_rows
from sn37.competition import EvalTask
from sn37.errors import ConfigError, ModelFault
from sn37.html import Markup, table
from sn37.records.results import Measurement, TaskResult
from sn37.sample import Sample

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["LocalResult"]


@dataclass(frozen=True)
class LocalResult:
    """Models on tasks; shows itself as a table with intervals and a bar for each score."""

    tasks: tuple[EvalTask, ...]
    """The tasks."""
    drawn: Mapping[str, Sequence[Sample]]
    """Each task's samples."""
    measured: Mapping[str, Measurement | ModelFault]
    """What each model came to, by its name: a measurement, or why it has none."""
    seed: int
    """The seed of the samples."""

    @cached_property
    def scores(self) -> DataFrame:
        """One row a model and task: the raw score with its 95 % interval (clustered by group), what it adds to the sum.

        Columns: model, task, raw, low, high, normalized, weighted, samples, seconds. Lower is better. Where a score is
        no mean of its values, as a method of one's own may have it, the interval is that of the mean.
        """
        import pandas

        rows = []
        for name, task, outcome in self._outcomes():
            interval = score_interval(outcome, self.drawn[task.name])
            normalized = task.normalization(outcome.score)
            rows.append(
                {
                    "model": name,
                    "task": task.name,
                    "raw": outcome.score,
                    "low": interval.low,
                    "high": interval.high,
                    "normalized": normalized,
                    "weighted": task.weight * normalized,
                    "samples": len(outcome.values),
                    "seconds": outcome.seconds,
                }
            )
        names = ("model", "task", "raw", "low", "high", "normalized", "weighted", "samples", "seconds")
        return pandas.DataFrame(rows, columns=list(names))

    @cached_property
    def samples(self) -> DataFrame:
        """One row a model and sample: model, task, sample, group, value, prompt, reference, reply, taken, tokens."""
        import pandas

        rows = [
            {"model": name, "task": task.name, **row}
            for name, task, outcome in self._outcomes()
            for row in task_rows(outcome, self.drawn[task.name])
        ]
        return pandas.DataFrame(rows)

    @property
    def faults(self) -> dict[str, str]:
        """Why models have no score, by name."""
        return {name: str(found) for name, found in self.measured.items() if isinstance(found, ModelFault)}

    def compare(self, level: float = 0.95) -> DataFrame:
        """Every two models, per task and over all: is the difference real?

        Columns: first, second, task ("all" for the weighted, normalized score), difference (below 0 the first is
        better), low, high, p_value (corrected for the number of comparisons by Holm's method), real. Paired by
        sample and clustered by group. Raises ConfigError where fewer than two models have a score.
        """
        import pandas

        alive = {name: found.tasks for name, found in self.measured.items() if isinstance(found, Measurement)}
        if len(alive) < 2:
            raise ConfigError(
                f"{len(alive)} of {len(self.measured)} models have a score; expected two or more to compare"
            )
        differences: dict[str, stats.Interval] = {}
        places: list[tuple[str, str, str]] = []
        for first, second in combinations(alive, 2):
            pairs = task_pairs(self.tasks, alive[first], alive[second], self.drawn)
            for name, pair in pairs.items():
                found = stats.paired_difference(pair.first, pair.second, pair.groups, counts=pair.counts, level=level)
                differences[f"{len(places)}"] = found
                places.append((first, second, name))
            if len(pairs) > 1:
                differences[f"{len(places)}"] = stats.score_difference(pairs, seed=self.seed, level=level)
                places.append((first, second, "all"))
        rows = [
            {
                "first": first,
                "second": second,
                "task": name,
                "difference": found.difference.estimate,
                "low": found.difference.low,
                "high": found.difference.high,
                "p_value": found.p_value,
                "real": found.real,
            }
            for (first, second, name), found in zip(places, stats.compare(differences), strict=True)
        ]
        return pandas.DataFrame(rows)

    def _outcomes(self) -> list[tuple[str, EvalTask, TaskResult]]:
        found = [(name, one) for name, one in self.measured.items() if isinstance(one, Measurement)]
        return [(name, task, one.tasks[task.name]) for name, one in found for task in self.tasks]

    def __repr__(self) -> str:
        lines = [f"seed {self.seed}; losses, lower is better"]
        for row in self.scores.itertuples(index=False):
            lines.append(
                f"{row.model}  {row.task}  {row.raw:.4f} [{row.low:.4f}, {row.high:.4f}]  {row.samples} samples"
            )
        return "\n".join(lines + [f"{name}  no score: {reason}" for name, reason in self.faults.items()])

    def _repr_html_(self) -> str:
        head = f"<p>seed {self.seed}; losses: lower is better; 95 % intervals, by group</p>"
        parts = [head]
        for task in self.tasks:
            rows = self.scores[self.scores["task"] == task.name].sort_values("raw", kind="stable")
            longest = max((high for high in rows["high"] if high < math.inf), default=1.0) or 1.0
            cells = [
                (model, raw, f"{low:.4f} to {high:.4f}", _bar(raw, low, high, longest), f"{seconds:.1f}")
                for model, raw, low, high, seconds in zip(
                    *(rows[name].tolist() for name in ("model", "raw", "low", "high", "seconds")), strict=True
                )
            ]
            caption = f"{task.name}: {len(self.drawn[task.name])} samples, weight {task.weight:g}"
            parts.append(table(("model", "raw score", "interval", "", "seconds"), cells, caption))
        if self.faults:
            parts.append(table(("model", "why it has no score"), self.faults.items()))
        return "".join(parts)


def _bar(value: float, low: float, high: float, longest: float) -> Markup:
    """A bar as long as the score, and a line for its interval."""
    width = 160.0
    at, start, end = (max(0.0, min(width, width * x / longest)) for x in (value, low, high))
    return Markup(
        f'<svg width="{width:.0f}" height="14" role="img" aria-label="{value:.4f}">'
        f'<rect width="{at:.1f}" height="10" y="2" fill="#8c8c8c"/>'
        f'<line x1="{start:.1f}" x2="{end:.1f}" y1="7" y2="7" stroke="currentColor" stroke-width="1.5"/></svg>'
    )
