"""How a row becomes a sample: templates, and what kind of sample they make together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sn37.errors import ConfigError
from sn37.sample import ChoiceSample, ReferenceSample, Sample, TextSample
from sn37.sources.base import DataRow
from sn37.sources.templates import Absent, Template

__all__ = ["KINDS", "Recipe"]

KINDS = (
    {"text"},
    {"prompt", "reference"},
    {"prompt", "reference", "system"},
    {"prompt", "choices", "answer"},
    {"prompt", "choices", "answer_index"},
)
"""The sets of templates that make a sample."""


@dataclass(frozen=True)
class Recipe:
    """Parsed templates: how a row becomes a sample."""

    templates: Mapping[str, tuple[Template, ...]]
    """By name; `choices` may be several."""
    listed: bool
    """Whether the choices come as a list in one column."""

    @classmethod
    def parse(cls, texts: Mapping[str, str | Sequence[str]]) -> Recipe:
        """texts: name -> template, "" for none; `choices` may be several. Raises ConfigError."""
        given = {name: (text,) if isinstance(text, str) else tuple(text) for name, text in texts.items() if text}
        if set(given) not in KINDS:
            got = ", ".join(sorted(given)) or "none"
            kinds = "; ".join(", ".join(sorted(kind)) for kind in KINDS)
            raise ConfigError(f"the templates given are {got}; expected one of these sets: {kinds}")
        templates: dict[str, tuple[Template, ...]] = {}
        mistakes = []
        for name, several in given.items():
            try:
                templates[name] = tuple(Template.parse(text) for text in several)
            except ValueError as error:
                mistakes.append(f"{name}: {error}")
        if mistakes:
            raise ConfigError("\n".join(mistakes))
        recipe = cls(templates, isinstance(texts.get("choices"), str))
        if not recipe.columns:
            raise ConfigError("no template names a column; write {column} where its text belongs")
        return recipe

    @property
    def columns(self) -> frozenset[str]:
        """The columns that are needed."""
        return frozenset(c for several in self.templates.values() for template in several for c in template.columns)

    def sample(self, row: DataRow) -> Sample:
        """One sample. Raises Absent, saying what the row lacks."""
        filled = {name: several[0].fill(row) for name, several in self.templates.items() if name != "choices"}
        for name, text in filled.items():
            if not text.strip():
                raise Absent(f"an empty {name}")
        if "text" in filled:
            return TextSample(filled["text"])
        if "reference" in filled:
            return ReferenceSample(filled["prompt"], filled["reference"], filled.get("system", ""))
        several = self.templates["choices"]
        choices = several[0].values(row) if self.listed else tuple(template.fill(row) for template in several)
        answer = filled["answer"] if "answer" in filled else _at(choices, filled["answer_index"])
        if answer not in choices or len(set(choices)) < 2:
            raise Absent("no answer among two or more choices")
        return ChoiceSample(filled["prompt"], choices, answer)


def _at(choices: Sequence[str], index: str) -> str:
    number = int(index) if index.isdecimal() and len(index) < 4 else len(choices)
    if number >= len(choices):
        raise Absent("no answer among two or more choices")
    return choices[number]
