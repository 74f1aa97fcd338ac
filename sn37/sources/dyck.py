"""Generated: balanced strings of brackets without their end (protocol, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from sn37.sample import ReferenceSample, Sample
from sn37.sources.base import Context, Count, source

__all__ = ["Dyck", "balanced"]

PAIRS = (("<", ">"), ("[", "]"), ("{", "}"), ("(", ")"))
FEWEST_PAIRS = 2
MOST_PAIRS = 20
MOST_CUT = 3


@source("dyck")
@dataclass(frozen=True)
class Dyck:
    """Strings of 2 to 20 pairs of brackets; the reference is the 1 to 3 closing characters at the end."""

    count: Count = 100
    """Samples that are drawn."""

    def __call__(self, context: Context) -> list[Sample]:
        """The samples, drawn with the context's generator."""
        return [_sample(context.generator) for _ in range(self.count)]


def _sample(generator: Random) -> ReferenceSample:
    cut = generator.randint(1, MOST_CUT)
    text = balanced(generator, generator.randint(max(cut, FEWEST_PAIRS), MOST_PAIRS), cut)
    prompt = f"Complete the sequence so that every bracket is closed: {' '.join(text[:-cut])}"
    return ReferenceSample(prompt, " ".join(text[-cut:]))


def balanced(generator: Random, pairs: int, closing: int) -> str:
    """A balanced string of so many pairs that ends in `closing` closing characters or more.

    At each place a bracket opens or closes by the toss of a coin, where both are possible. None closes
    while that would leave too few for the end.
    """
    text, expected = "", ""
    opened = 0
    while len(text) < 2 * pairs:
        may_close = bool(expected) and (opened == pairs or len(text) - opened < pairs - closing)
        may_open = opened < pairs
        if may_open and (not may_close or generator.random() < 0.5):
            opening, closer = generator.choice(PAIRS)
            text, expected, opened = text + opening, closer + expected, opened + 1
        else:
            text, expected = text + expected[0], expected[1:]
    return text
