"""Simple questions with one-word answers that even a tiny model can learn, made from a small table of facts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random

__all__ = ["Question", "facts", "questions"]

_OPPOSITES = (
    "hot cold, big small, day night, up down, left right, fast slow, old new, open closed, happy sad, wet dry, "
    "light dark, high low, hard soft, rich poor, early late, full empty, long short, near far, clean dirty, "
    "strong weak, thick thin, win lose, buy sell, love hate, first last, start stop, black white, sweet sour, "
    "loud quiet, true false"
)
_YOUNG = (
    "cow calf, cat kitten, dog puppy, horse foal, sheep lamb, pig piglet, goose gosling, bear cub, deer fawn, "
    "goat kid, duck duckling, hen chick, frog tadpole, swan cygnet, owl owlet, kangaroo joey, seal pup, eagle eaglet"
)
_COLOURS = (
    "grass green, snow white, coal black, blood red, lemon yellow, sea blue, carrot orange, chocolate brown, "
    "rose pink, ash grey, violet purple, treasure golden"
)
_MONTHS = "january february march april may june july august september october november december"
_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
_NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)


@dataclass(frozen=True)
class Question:
    """A question with four choices."""

    question: str
    """Ends with a question mark."""
    choices: tuple[str, ...]
    """In random order."""
    answer: str
    """The right one of them."""


def facts() -> list[tuple[str, str]]:
    """(question, answer), in a fixed order; no question twice."""
    opposites = _pairs(_OPPOSITES)
    months, days, numbers = _MONTHS.split(), _DAYS.split(), _NUMBERS.split()
    both_ways = [*opposites, *((answer, subject) for subject, answer in opposites)]
    return [
        *((f"What is the opposite of {subject}?", answer) for subject, answer in both_ways),
        *((f"What is a young {subject} called?", answer) for subject, answer in _pairs(_YOUNG)),
        *((f"What colour is {subject}?", answer) for subject, answer in _pairs(_COLOURS)),
        *((f"Which month comes after {a}?", b) for a, b in zip(months, months[1:] + months[:1], strict=True)),
        *((f"Which day comes after {a}?", b) for a, b in zip(days, days[1:] + days[:1], strict=True)),
        *((f"Which number comes after {a}?", b) for a, b in pairwise(numbers)),
    ]


def questions(random: Random, count: int) -> list[Question]:
    """So many questions; the wrong choices are answers to other ones."""
    known = facts()
    answers = sorted({answer for _, answer in known})
    made = []
    for _ in range(count):
        question, answer = random.choice(known)
        choices = [answer, *random.sample([other for other in answers if other != answer], 3)]
        random.shuffle(choices)
        made.append(Question(question, tuple(choices), answer))
    return made


def _pairs(text: str) -> list[tuple[str, str]]:
    words = [pair.split() for pair in text.split(", ")]
    return [(subject, answer) for subject, answer in words]
