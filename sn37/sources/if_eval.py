"""Pairs of questions under the same rules on the form of the answer: the questions of `macrobench`, or of
any hub dataset with a question and its answer (protocol, sections 5 and 6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from sn37.ifeval import draw_rules, instruction
from sn37.sample import InstructionSample, Sample
from sn37.sources.authors import MIN_STAKE
from sn37.sources.base import Context, Count, source
from sn37.sources.macrobench import REPO, answered
from sn37.sources.pages import page_indices

__all__ = ["IfEval", "question_and_answer"]

MAX_CHARACTERS = 20_000
READ_PER_SAMPLE = 3
"""Questions read for each sample wanted: many answers are one word, and such questions are left out."""

_MARKER = "[Input Question]"
_CHOICE = re.compile(r"(?<!\S)([A-D])[.)]\s")

Pair = tuple[str, str]


@source("if_eval")
@dataclass(frozen=True)
class IfEval:
    """Pairs of neighbouring questions under the same rules."""

    version: Literal[1, 2] = 2
    """Of the rules: 1 or 2."""
    count: Count = 40
    """Pairs that are drawn."""
    min_samples: Count = 10
    """Fewer samples are a data fault."""
    configs: Count = 10
    """Configs of macrobench that are drawn."""
    min_stake: float = MIN_STAKE
    """TAO from which a validator is trusted as an author."""
    repo: str = ""
    """A hub dataset with questions and answers; "" for macrobench."""
    config: str = "default"
    """The dataset's config."""
    split: str = "train"
    """The config's split."""
    question: str = "question"
    """The column of the questions."""
    answer: str = "answer"
    """The column of the answers."""
    page_rows: Count = 100
    """Neighbouring rows that are read together."""

    def __call__(self, context: Context) -> list[Sample]:
        """The samples, drawn with the context's generator."""
        wanted = READ_PER_SAMPLE * self.count
        if self.repo:
            place = (self.repo, self.config, self.split)
            found = _from_dataset(context, place, (self.question, self.answer), wanted, self.page_rows)
        else:
            found = _from_macrobench(context, self.configs, self.min_stake, wanted)
        usable = _usable(context, found)
        neighbours = list(pairwise(usable))[: self.count]
        samples: list[Sample] = [_sample(context, first, second, self.version) for first, second in neighbours]
        context.enough(samples, self.min_samples, self.repo or REPO)
        return samples


def question_and_answer(challenge: str, letter: str) -> Pair | None:
    """The question of a challenge without example and choices, and the text of the choice `letter`.

    None where there are no choices A to D. They are looked for from the end, for a question may speak of `A.` too.
    """
    text = challenge.rpartition(_MARKER)[2]
    choices: dict[str, str] = {}
    end = len(text)
    missing = list("ABCD")
    for mark in reversed(list(_CHOICE.finditer(text))):
        if missing and mark[1] == missing[-1]:
            choices[missing.pop()] = text[mark.end() : end].strip()
            end = mark.start()
    question = text[:end].strip().removeprefix(":").strip()
    if missing or not question or not all(choices.values()):
        return None
    return question, choices[letter].splitlines()[0].strip()


def _from_macrobench(context: Context, configs: int, min_stake: float, wanted: int) -> Iterator[Pair]:
    for challenge, letter in answered(context, configs=configs, max_samples=wanted, min_stake=min_stake):
        pair = question_and_answer(challenge, letter)
        if pair is None:
            context.drop("challenges without a question and choices")
        else:
            yield pair


def _from_dataset(
    context: Context, place: tuple[str, str, str], columns: Pair, wanted: int, page_rows: int
) -> Iterator[Pair]:
    total = context.datasets.num_rows(*place)
    indices = page_indices(context.generator, total, min(wanted, total), page_rows, place[0])
    for row in context.datasets.rows(*place, indices, sorted(set(columns))):
        question, answer = (row[column] for column in columns)
        if isinstance(question, str) and isinstance(answer, str) and question.strip():
            yield question.strip(), answer.strip()
        else:
            context.drop("rows without a question and an answer")


def _usable(context: Context, pairs: Iterable[Pair]) -> list[Pair]:
    """Those with an answer of several words, each question once: two alike would be answered alike."""
    found: dict[str, str] = {}
    for question, answer in pairs:
        if len(question) + len(answer) > MAX_CHARACTERS:
            context.drop(f"questions of over {MAX_CHARACTERS} characters")
        elif len(answer.split()) < 2:
            context.drop("answers of one word")
        elif question in found:
            context.drop("questions seen before")
        else:
            found[question] = answer
    return list(found.items())


def _sample(context: Context, first: Pair, second: Pair, version: int) -> InstructionSample:
    rules = draw_rules(context.generator, (first[1], second[1]), version)
    prompts = (instruction(first[0], rules[0]), instruction(second[0], rules[1]))
    data = tuple(rule.data for rule in rules[0]), tuple(rule.data for rule in rules[1])
    return InstructionSample(prompts, data)
