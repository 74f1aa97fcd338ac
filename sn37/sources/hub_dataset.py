"""Samples from any hub dataset, by text templates over its columns: a competition that needs no code.

What the templates give decides the kind of sample: `text`, or `prompt` and `reference` (and `system`),
or `prompt`, `choices` and `answer` (or `answer_index`, counted from 0).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sn37.sample import Sample
from sn37.sources.base import Context, Count, argument_check, source
from sn37.sources.filters import Condition, Filter
from sn37.sources.pages import page_indices
from sn37.sources.recipes import Recipe
from sn37.sources.templates import Absent

__all__ = ["hub_dataset"]

_TEMPLATES = ("text", "prompt", "reference", "system", "choices", "answer", "answer_index")


@source("hub_dataset")
def hub_dataset(
    context: Context,
    *,
    repo: str,
    config: str = "default",
    split: str = "train",
    rows: Count = 400,
    page_rows: Count = 100,
    max_samples: Count = 400,
    min_samples: Count = 1,
    filters: Sequence[Condition] = (),
    text: str = "",
    prompt: str = "",
    reference: str = "",
    system: str = "",
    choices: str | Sequence[str] = "",
    answer: str = "",
    answer_index: str = "",
) -> list[Sample]:
    """`rows` rows are read, page by page until `max_samples` that pass all `filters` are found.

    choices: a template for each, or one template that names a column holding a list.
    """
    given = (text, prompt, reference, system, choices, answer, answer_index)
    recipe = Recipe.parse(dict(zip(_TEMPLATES, given, strict=True)))
    conditions = [Filter.parse(condition) for condition in filters]
    columns = recipe.columns | {condition.path.column for condition in conditions}
    where = f"{repo} ({config}, {split})"
    total = context.datasets.num_rows(repo, config, split)
    indices = page_indices(context.generator, total, rows, page_rows, where)
    samples: list[Sample] = []
    for start in range(0, len(indices), page_rows):
        if len(samples) >= max_samples:
            break
        page = indices[start : start + page_rows]
        samples += _kept(context, recipe, conditions, context.datasets.rows(repo, config, split, page, sorted(columns)))
    context.enough(samples, min_samples, where)
    return samples[:max_samples]


def _kept(
    context: Context, recipe: Recipe, conditions: Sequence[Filter], rows: Sequence[Mapping[str, Any]]
) -> Iterator[Sample]:
    for row in rows:
        if not all(condition.holds(row) for condition in conditions):
            context.drop("rows that the filters leave out")
            continue
        try:
            yield recipe.sample(row)
        except Absent as absent:
            context.drop(f"rows with {absent}")


@argument_check("hub_dataset")
def check(*, filters: Sequence[Condition] = (), **args: Any) -> None:
    """Raises ConfigError on templates that cannot be read or make no sample, and on filters alike."""
    Recipe.parse({name: args.get(name, "") for name in _TEMPLATES})
    for condition in filters:
        Filter.parse(condition)
