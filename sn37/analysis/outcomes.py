"""A task's outcome beside its samples: a row a value for people, two models' values in pairs for statistics."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from sn37.analysis.stats import Interval, TaskPair, mean_interval, score_difference
from sn37.competition import Competition, EvalTask
from sn37.incentive import Contender
from sn37.records.decision import Difference
from sn37.records.epochs import Epoch
from sn37.records.results import Result, TaskResult
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, Sample, TextSample

__all__ = ["Drawn", "convincing", "difference_of", "score_interval", "task_pair", "task_pairs", "task_rows"]

Drawn = Mapping[str, Sequence[Sample]]
"""The samples of each task."""

_REPORTED_LEVEL = 0.95


def task_rows(outcome: TaskResult, drawn: Sequence[Sample]) -> Iterator[dict[str, object]]:
    """One row a value of a task's outcome, beside the sample it belongs to. drawn: () where they are not kept."""
    details = outcome.details or ({},) * len(outcome.values)
    for place, value, detail in zip(outcome.places, outcome.values, details, strict=True):
        prompt, reference = _texts(drawn[place]) if drawn else (None, None)
        replies = detail.get("replies")
        reply = "\n\n".join(map(str, replies)) if isinstance(replies, list | tuple) else detail.get("reply") or ""
        taken = detail.get("answer", detail.get("followed"))
        yield {
            "sample": place,
            "group": drawn[place].group if drawn else "",
            "value": value,
            "prompt": prompt,
            "reference": reference,
            "reply": reply,
            "taken": "" if taken is None else str(taken),
            "tokens": detail.get("tokens"),
        }


def task_pair(task: EvalTask, first: TaskResult, second: TaskResult | None, drawn: Sequence[Sample]) -> TaskPair:
    """Two models' values on the samples of a task that both have, counted as their scores count them.

    second: None for a model without any loss. drawn: as for `task_rows`; they tell the groups.
    """
    values = _scored(first)
    others = dict.fromkeys(values, 0.0) if second is None else _scored(second)
    counts = dict(zip(first.places, first.counts or (1,) * len(first.values), strict=True))
    both = [place for place in values if place in others]
    mine, theirs = ([of[place] for place in both] for of in (values, others))
    groups = [drawn[place].group or place for place in both] if drawn else None
    return TaskPair(mine, theirs, groups, task.weight, task.normalization, [counts[place] for place in both])


def score_interval(outcome: TaskResult, drawn: Sequence[Sample], level: float = 0.95) -> Interval:
    """The interval of a task's raw score, clustered by group. drawn: as for `task_rows`; they tell the groups.

    Of a score that is no mean of its values, as a method of one's own may have it: the interval of their mean.
    """
    values = list(_scored(outcome).values())
    return mean_interval(values, outcome.groups(drawn), counts=outcome.counts, level=level)


def _scored(outcome: TaskResult) -> dict[int, float]:
    """Each value by the place of its sample, as the score is the mean of.

    Replies that are alike make a score 1 whatever rules they follow (`if_eval`): then each value is that 1.
    """
    values, counts = outcome.values, outcome.counts
    if counts is not None:
        mean = math.fsum(value * count for value, count in zip(values, counts, strict=True)) / sum(counts)
        if not math.isclose(mean, outcome.score, rel_tol=1e-6, abs_tol=1e-9):
            values = (outcome.score,) * len(values)
    return dict(zip(outcome.places, values, strict=True))


def task_pairs(
    tasks: Iterable[EvalTask], first: Mapping[str, TaskResult], second: Mapping[str, TaskResult], drawn: Drawn
) -> dict[str, TaskPair]:
    """Two models' pairs of every task, by its name. first, second: their outcomes by task."""
    return {task.name: task_pair(task, first[task.name], second[task.name], drawn.get(task.name, ())) for task in tasks}


def difference_of(competition: Competition, sync_block: int, first: Result, second: Result, drawn: Drawn) -> Difference:
    """The first model's score less the second's, paired by sample and clustered by group.

    The bootstrap is seeded by the sync block, so it is the same for every validator.
    """
    level = competition.significance or _REPORTED_LEVEL
    pairs = task_pairs(competition.tasks, first.tasks, second.tasks, drawn)
    found = score_difference(pairs, seed=sync_block, level=level)
    low, high = (end if math.isfinite(end) else None for end in (found.low, found.high))
    return Difference(found.estimate, low, high, level)


def convincing(epoch: Epoch) -> Callable[[Contender, Contender], bool]:
    """What `incentive.reign` asks of two contenders, by an epoch's results: is the first better beyond chance?

    Always where the competition does not ask for it; else never where one of the two was not measured.
    """
    competition = epoch.manifest.competition

    @functools.cache
    def judged(contender: str, incumbent: str) -> bool:
        first, second = epoch.results.get(contender), epoch.results.get(incumbent)
        if first is None or second is None or not first.tasks or not second.tasks:
            return False
        drawn = {task.name: epoch.samples(task.name) for task in competition.tasks}
        return difference_of(competition, epoch.sync_block, first, second, drawn).convinces

    return lambda one, other: competition.significance is None or judged(one.hotkey, other.hotkey)


def _texts(sample: Sample) -> tuple[str, str]:
    """What a model is asked, and what is expected of it."""
    match sample:
        case TextSample(text=text):
            return "", text
        case ReferenceSample(prompt=prompt, reference=reference, system=system):
            return f"{system}\n\n{prompt}" if system else prompt, reference
        case ChoiceSample(prompt=prompt, answer=answer):
            return prompt, answer
        case InstructionSample(prompts=prompts):
            return "\n\n".join(prompts), ""
