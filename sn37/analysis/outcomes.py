"""A task's outcome beside its samples: a row a value for people, two models' values in pairs for statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sn37.analysis.stats import TaskPair
from sn37.competition import EvalTask
from sn37.records.results import TaskResult
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, Sample, TextSample

__all__ = ["task_pair", "task_rows"]


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


def task_pair(task: EvalTask, first: TaskResult, second: TaskResult, drawn: Sequence[Sample]) -> TaskPair:
    """Two models' values on the samples of a task that both have. drawn: as for `task_rows`; they tell the groups."""
    values = [dict(zip(one.places, one.values, strict=True)) for one in (first, second)]
    counts = dict(zip(first.places, first.counts or (1,) * len(first.values), strict=True))
    both = [place for place in values[0] if place in values[1]]
    mine, theirs = ([of[place] for place in both] for of in values)
    groups = [drawn[place].group or place for place in both] if drawn else None
    return TaskPair(mine, theirs, groups, task.weight, task.normalization, [counts[place] for place in both])


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
