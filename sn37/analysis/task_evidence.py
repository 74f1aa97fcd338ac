"""What is known of an evaluation task once models, games and its own gold answers have been scored on it.

Values and data frames only: `sn37.evaluation.judging` gathers them, `sn37.analysis.task_findings` concludes from them.
All scores are losses: lower is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Literal

from sn37.analysis import stats
from sn37.analysis.outcomes import score_interval, task_pair, task_rows
from sn37.competition import Epsilon, EvalTask, Normalization
from sn37.records.results import TaskResult
from sn37.sample import ChoiceSample, Sample

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["LEVEL", "Evidence", "Finding", "Game", "Grade"]

Grade = Literal["defect", "warning", "good", "open"]
"""A defect decides against the task; a warning asks for care; open is what could not be looked at."""

LEVEL = 0.01
"""The p-value below which something is called out: lower than usual, for many things are looked at."""


@dataclass(frozen=True)
class Game:
    """A player that has not solved the task, or its gold answers, scored by the task's own method."""

    name: str
    """What it is called."""
    what: str
    """What it does, as the rest of a sentence about it."""
    outcome: TaskResult | None
    """What the method makes of it; None where it cannot be played."""
    refused: str = ""
    """Why there is no outcome; "" where there is one."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    aspect: str
    """What was looked at."""
    grade: Grade
    """How it bears on the task."""
    text: str
    """What was found, with its figures."""
    advice: str = ""
    """What to do about it; "" for nothing."""
    samples: tuple[int, ...] = field(default=(), repr=False)
    """The samples it is about, where it is about some."""


@dataclass(frozen=True, repr=False)
class Evidence:
    """Everything that a task is judged by."""

    task: EvalTask
    """The task."""
    samples: Sequence[Sample]
    """Its samples for the seed."""
    seed: int
    """What they were drawn with."""
    epsilon: Epsilon
    """The advantage of the one who reigns, in the competition the task is meant for."""
    gold: Game
    """What the task's own references score."""
    games: tuple[Game, ...]
    """What can be had without solving it."""
    repeated: float | None
    """The share of the samples that another seed draws as well, in [0, 1]; None where nothing was drawn."""
    models: Mapping[str, TaskResult]
    """Each model's outcome, in the order given: the weakest first."""
    faults: Mapping[str, str]
    """Why models have none."""
    variants: Mapping[str, Mapping[str, TaskResult]]
    """Each model's outcome on the same samples with other words, or with the choices in another order."""
    beside: tuple[EvalTask, ...]
    """Other tasks that the models were scored on."""
    others: Mapping[str, Mapping[str, TaskResult]]
    """Each model's outcome on each of them, by task."""

    def __repr__(self) -> str:
        return (
            f"evidence on {self.task.name}: {len(self.samples)} samples, {len(self.models)} models, {len(self.games)} "
            "games; data frames: scores, values, spread, noise, changes, weights, ranking(weight, normalization)"
        )

    @cached_property
    def ranked(self) -> list[str]:
        """The models, the lowest score first."""
        return sorted(self.models, key=lambda name: self.models[name].score)

    @property
    def chance(self) -> float | None:
        """What guessing scores, in (0, 1); None where nothing is chosen from."""
        sizes = [len(sample.choices) for sample in self.samples if isinstance(sample, ChoiceSample)]
        return math.fsum(1 - 1 / size for size in sizes) / len(sizes) if len(sizes) == len(self.samples) else None

    def interval(self, outcome: TaskResult) -> stats.Interval:
        """An outcome's score with its 95 % interval, clustered by group."""
        return score_interval(outcome, self.samples)

    def difference(self, first: TaskResult, second: TaskResult) -> stats.Interval:
        """Two outcomes on the same samples: below 0 the first is better."""
        pair = task_pair(self.task, first, second, self.samples)
        return stats.paired_difference(pair.first, pair.second, pair.groups, counts=pair.counts)

    @cached_property
    def pairs(self) -> Mapping[tuple[str, str], stats.Comparison]:
        """Every two models, the better one first, corrected for their number."""
        found = {pair: self.difference(*(self.models[name] for name in pair)) for pair in combinations(self.ranked, 2)}
        return dict(zip(found, stats.compare({" ".join(pair): d for pair, d in found.items()}), strict=True))

    @cached_property
    def deviation(self) -> float | None:
        """Standard deviation of a sample's difference between the two most alike of neighbours; None if there is none.

        Counted by group: the difference's standard error times the root of the number of samples.
        """
        found = [self.pairs[pair].difference for pair in pairwise(self.ranked)]
        spreads = [one.standard_error * math.sqrt(one.samples) for one in found]
        return min((spread for spread in spreads if 0 < spread < math.inf), default=None)

    @property
    def wanted(self) -> float:
        """The difference that epsilon asks of a newcomer once it has decayed: its share of the best model's score."""
        return self.epsilon.final * self.models[self.ranked[0]].score

    @property
    def scores(self) -> DataFrame:
        """Models, games and gold beside each other. Columns: name, kind (model, game, gold), score, low, high."""
        import pandas

        named = [(name, "model", self.models[name]) for name in self.ranked]
        named += [(game.name, "game", game.outcome) for game in self.games if game.outcome]
        named += [(self.gold.name, "gold", self.gold.outcome)] if self.gold.outcome else []
        rows = [
            (name, kind, outcome.score, (within := self.interval(outcome)).low, within.high)
            for name, kind, outcome in named
        ]
        return pandas.DataFrame(rows, columns=["name", "kind", "score", "low", "high"])

    @cached_property
    def values(self) -> DataFrame:
        """Every model's loss on each sample: one row a sample that all have, one column a model, the best first."""
        import pandas

        columns = {
            name: pandas.Series(dict(zip((o := self.models[name]).places, o.values, strict=True)), dtype=float)
            for name in self.ranked
        }
        return pandas.DataFrame(columns).dropna().rename_axis("sample")

    @property
    def spread(self) -> DataFrame:
        """What decides: one row a sample, the one that the models differ most on first.

        Columns: spread (standard deviation between models), prompt, reference, and each model's loss and reply.
        """
        import pandas

        table = pandas.DataFrame(index=self.values.index)
        table["spread"] = self.values.std(axis=1, ddof=0)
        for place, name in enumerate(self.ranked):
            rows = pandas.DataFrame(task_rows(self.models[name], self.samples)).set_index("sample")
            if not place:
                table = table.join(rows[["prompt", "reference"]])
            table[name] = rows["value"]
            table[f"{name} said"] = rows["taken"].where(rows["taken"] != "", rows["reply"])
        return table.sort_values("spread", ascending=False, kind="stable")

    @property
    def noise(self) -> DataFrame:
        """The smallest difference that so many samples show with probability 0.8.

        Columns: samples, smallest, epsilon (what it asks for).
        """
        import numpy
        import pandas

        if self.deviation is None:
            return pandas.DataFrame(columns=["samples", "smallest", "epsilon"])
        needed = stats.samples_needed(self.deviation, self.wanted) if self.wanted else 0
        most = max(10 * len(self.samples), min(2 * needed, 1_000_000))
        counts = numpy.geomspace(10, most, 40)
        smallest = [stats.smallest_difference(self.deviation, float(count)) for count in counts]
        return pandas.DataFrame({"samples": counts, "smallest": smallest, "epsilon": self.wanted})

    @property
    def changes(self) -> DataFrame:
        """What other words do.

        Columns: variant, model, score, change (above 0: worse than as drawn) with low and high, differ (the share of
        samples whose loss moved by more than a hundredth).
        """
        import pandas

        rows = []
        for variant, outcomes in self.variants.items():
            for name in (name for name in self.ranked if name in outcomes):
                pair = task_pair(self.task, outcomes[name], self.models[name], self.samples)
                moved = [abs(a - b) > 0.01 for a, b in zip(pair.first, pair.second, strict=True)]
                change = self.difference(outcomes[name], self.models[name])
                found = (outcomes[name].score, change.estimate, change.low, change.high, sum(moved) / len(moved))
                rows.append((variant, name, *found))
        return pandas.DataFrame(rows, columns=["variant", "model", "score", "change", "low", "high", "differ"])

    def ranking(self, weight: float | None = None, normalization: Normalization | None = None) -> DataFrame:
        """The models' scores and places in a competition of this task and those beside it, best first.

        weight: this task's share of the score, in (0, 1], its own one without it; the rest is shared among the others
        as they share it now. normalization: in place of the task's own. Columns: model, score, place (from 1).
        """
        import pandas

        share = (self.task.weight if weight is None else weight) if self.beside else 1.0
        rest = math.fsum(task.weight for task in self.beside)
        made = normalization or self.task.normalization
        rows = []
        for name in self.ranked:
            found = [share * made(self.models[name].score)]
            found += [
                (1 - share) * task.weight / rest * task.normalization(self.others[task.name][name].score)
                for task in self.beside
            ]
            rows.append((name, math.fsum(found)))
        table = pandas.DataFrame(rows, columns=["model", "score"]).sort_values("score", kind="stable")
        return table.assign(place=range(1, len(table) + 1)).reset_index(drop=True)

    @property
    def weights(self) -> DataFrame:
        """The ranking at every weight from 0.05 to 1. Columns: weight, model, score, place."""
        import pandas

        steps = [step / 20 for step in range(1, 21)] if self.beside else []
        frames = [self.ranking(weight).assign(weight=weight) for weight in steps]
        columns = ["weight", "model", "score", "place"]
        return pandas.concat(frames, ignore_index=True)[columns] if frames else pandas.DataFrame(columns=columns)
