"""Questions and their answers in words: out of `macrobench`'s challenges, or of any hub dataset."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from sn37.sources.base import Context
from sn37.sources.macrobench import answered
from sn37.sources.pages import page_indices

__all__ = ["Pair", "from_dataset", "from_macrobench", "question_and_answer", "usable"]

MAX_CHARACTERS = 20_000
"""The longest question with its answer."""

_MARKER = "[Input Question]"
_CHOICE = re.compile(r"(?<!\S)([A-D])[.)]\s")

Pair = tuple[str, str]
"""A question and its answer."""


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


def from_macrobench(context: Context, configs: int, min_stake: float, wanted: int) -> Iterator[Pair]:
    """Questions of `macrobench` with the texts of their right choices."""
    for challenge, letter in answered(context, configs=configs, max_samples=wanted, min_stake=min_stake):
        pair = question_and_answer(challenge, letter)
        if pair is None:
            context.drop("challenges without a question and choices")
        else:
            yield pair


def from_dataset(
    context: Context, place: tuple[str, str, str], columns: Pair, wanted: int, page_rows: int
) -> Iterator[Pair]:
    """Questions of any hub dataset. place: repo, config and split; columns: of the question and of its answer."""
    total = context.datasets.num_rows(*place)
    indices = page_indices(context.generator, total, min(wanted, total), page_rows, place[0])
    for row in context.datasets.rows(*place, indices, sorted(set(columns))):
        question, answer = (row[column] for column in columns)
        if isinstance(question, str) and isinstance(answer, str) and question.strip():
            yield question.strip(), answer.strip()
        else:
            context.drop("rows without a question and an answer")


def usable(context: Context, pairs: Iterable[Pair]) -> list[Pair]:
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
