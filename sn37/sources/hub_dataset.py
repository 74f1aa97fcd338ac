"""Samples from any hub dataset, by text templates over its columns: a competition that needs no code.

What the templates give decides the kind of sample: `text`, or `prompt` and `reference` (and `system`),
or `prompt`, `choices` and `answer` (or `answer_index`, counted from 0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sn37.errors import ConfigError
from sn37.sample import Sample
from sn37.sources.base import Context, Count, DataRow, source
from sn37.sources.filters import Condition, Filter
from sn37.sources.pages import page_indices
from sn37.sources.recipes import Recipe
from sn37.sources.templates import Absent
from sn37.values import Checked

__all__ = ["HubDataset"]

_TEMPLATES = ("text", "prompt", "reference", "system", "choices", "answer", "answer_index")


@source("hub_dataset")
@dataclass(frozen=True)
class HubDataset(Checked):
    """Samples made of rows by templates: page by page, until `max_samples` that pass all filters are found."""

    repo: str
    """The dataset, `namespace/name`."""
    config: str = "default"
    """The dataset's config."""
    split: str = "train"
    """The config's split."""
    rows: Count = 400
    """Rows that are read."""
    page_rows: Count = 100
    """Neighbouring rows that are read together."""
    max_samples: Count = 400
    """At most so many samples are kept."""
    min_samples: Count = 1
    """Fewer samples are a data fault."""
    filters: Sequence[Condition] = ()
    """Conditions that a row must meet, all of them."""
    text: str = ""
    """Template of a plain text."""
    prompt: str = ""
    """Template of the prompt."""
    reference: str = ""
    """Template of the reference reply."""
    system: str = ""
    """Template of the system prompt."""
    choices: str | Sequence[str] = ""
    """A template for each choice, or one that names a column holding a list."""
    answer: str = ""
    """Template of the right choice."""
    answer_index: str = ""
    """Template of the right choice's place, counted from 0."""

    @classmethod
    def mistakes(cls, given: Mapping[str, Any]) -> list[str]:
        """Templates that cannot be read or make no sample, and filters alike."""
        templates = {name: given[name] for name in _TEMPLATES if name in given}
        readings: list[Callable[[], object]] = [partial(Filter.parse, each) for each in given.get("filters", ())]
        if len(templates) == len(_TEMPLATES):
            readings.append(partial(Recipe.parse, templates))
        found = []
        for reading in readings:
            try:
                reading()
            except ConfigError as error:
                found += str(error).splitlines()
        return found

    @property
    def recipe(self) -> Recipe:
        """What makes a sample of a row."""
        return Recipe.parse({name: getattr(self, name) for name in _TEMPLATES})

    @property
    def conditions(self) -> list[Filter]:
        """The filters, read."""
        return [Filter.parse(condition) for condition in self.filters]

    def __call__(self, context: Context) -> list[Sample]:
        """The samples, drawn with the context's generator."""
        recipe, conditions = self.recipe, self.conditions
        columns = recipe.columns | {condition.path.column for condition in conditions}
        where = f"{self.repo} ({self.config}, {self.split})"
        total = context.datasets.num_rows(self.repo, self.config, self.split)
        indices = page_indices(context.generator, total, self.rows, self.page_rows, where)
        samples: list[Sample] = []
        for start in range(0, len(indices), self.page_rows):
            if len(samples) >= self.max_samples:
                break
            page = indices[start : start + self.page_rows]
            read = context.datasets.rows(self.repo, self.config, self.split, page, sorted(columns))
            samples += _kept(context, recipe, conditions, read)
        context.enough(samples, self.min_samples, where)
        return samples[: self.max_samples]


def _kept(context: Context, recipe: Recipe, conditions: Sequence[Filter], rows: Sequence[DataRow]) -> Iterator[Sample]:
    for row in rows:
        if not all(condition.holds(row) for condition in conditions):
            context.drop("rows that the filters leave out")
            continue
        try:
            yield recipe.sample(row)
        except Absent as absent:
            context.drop(f"rows with {absent}")
