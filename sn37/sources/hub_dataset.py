"""Samples from any hub dataset, by text templates over its columns: a competition that needs no code.

What the templates give decides the kind of sample: `text`, or `prompt` and `reference` (and `system`),
or `prompt`, `choices` and `answer` (or `answer_index`, counted from 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sn37.errors import ConfigError
from sn37.sample import ChoiceSample, ReferenceSample, Sample, TextSample
from sn37.sources.base import Context, Count, argument_check, source
from sn37.sources.filters import Condition, Filter
from sn37.sources.pages import page_indices
from sn37.sources.templates import Absent, Template

__all__ = ["hub_dataset"]

MAX_CHARACTERS = 400_000
"""Longer samples are left out: no sequence length has room for them."""

_KINDS = (
    {"text"},
    {"prompt", "reference"},
    {"prompt", "reference", "system"},
    {"prompt", "choices", "answer"},
    {"prompt", "choices", "answer_index"},
)


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
    """`rows` rows are read in pages; those that pass all `filters` give samples, up to `max_samples`.

    choices: a template for each, or one template that names a column holding a list.
    """
    templates = _parsed(text, prompt, reference, system, choices, answer, answer_index)
    conditions = [Filter.parse(condition) for condition in filters]
    columns = {column for found in templates.values() for template in found for column in template.columns}
    columns |= {condition.path.column for condition in conditions}
    total = context.datasets.num_rows(repo, config, split)
    indices = page_indices(context.generator, total, rows, page_rows, f"{repo} ({config}, {split})")
    samples: list[Sample] = []
    for row in context.datasets.rows(repo, config, split, indices, sorted(columns)):
        if len(samples) == max_samples:
            break
        if not all(condition.holds(row) for condition in conditions):
            context.drop("rows that the filters leave out")
            continue
        try:
            samples.append(_sample(templates, isinstance(choices, str), row))
        except Absent as absent:
            context.drop(f"rows with {absent}")
    context.enough(samples, min_samples, f"{repo} ({config}, {split})")
    return samples


@argument_check("hub_dataset")
def check(*, filters: Sequence[Condition] = (), **args: Any) -> None:
    """Raises ConfigError on templates that cannot be read or make no sample, and on filters alike."""
    names = ("text", "prompt", "reference", "system", "choices", "answer", "answer_index")
    _parsed(*(args.get(name, "") for name in names))
    for condition in filters:
        Filter.parse(condition)


def _parsed(
    text: str, prompt: str, reference: str, system: str, choices: str | Sequence[str], answer: str, answer_index: str
) -> dict[str, tuple[Template, ...]]:
    single = {"text": text, "prompt": prompt, "reference": reference, "system": system}
    single |= {"answer": answer, "answer_index": answer_index}
    several = {name: (value,) for name, value in single.items()} | {
        "choices": (choices,) if isinstance(choices, str) else tuple(choices)
    }
    given = {name: values for name, values in several.items() if any(values)}
    if set(given) not in _KINDS:
        got = ", ".join(sorted(given)) or "none"
        kinds = "; ".join(", ".join(sorted(kind)) for kind in _KINDS)
        raise ConfigError(f"hub_dataset: the templates given are {got}; expected one of these sets: {kinds}")
    templates = {}
    for name, values in given.items():
        try:
            templates[name] = tuple(Template.parse(value) for value in values)
        except ValueError as error:
            raise ConfigError(f"hub_dataset: {name}: {error}") from None
    return templates


def _sample(templates: dict[str, tuple[Template, ...]], listed: bool, row: dict[str, Any]) -> Sample:
    """One sample. listed: whether the choices come as a list in one column. Raises Absent."""
    filled = {name: found[0].fill(row) for name, found in templates.items() if name != "choices"}
    if any(len(value) > MAX_CHARACTERS for value in filled.values()):
        raise Absent(f"a text of over {MAX_CHARACTERS} characters")
    for name in ("text", "reference"):
        if name in filled and not filled[name].strip():
            raise Absent(f"no {name}")
    if "text" in filled:
        return TextSample(filled["text"])
    if "reference" in filled:
        return ReferenceSample(filled["prompt"], filled["reference"], filled.get("system", ""))
    found = templates["choices"]
    choices = found[0].values(row) if listed else tuple(template.fill(row) for template in found)
    answer = filled.get("answer") or _at(choices, filled.get("answer_index", ""))
    if answer not in choices or len(set(choices)) < 2:
        raise Absent("no answer among two or more choices")
    return ChoiceSample(filled["prompt"], choices, answer)


def _at(choices: tuple[str, ...], index: str) -> str | None:
    return choices[int(index)] if index.isdecimal() and int(index) < len(choices) else None
