"""Generated: common English words to put in alphabetical order (protocol, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from sn37.ifeval import common_words
from sn37.sample import ReferenceSample, Sample
from sn37.sources.base import Context, Count, source

__all__ = ["WordSorting"]

FEWEST_WORDS = 2
MOST_WORDS = 20


@source("word_sorting")
@dataclass(frozen=True)
class WordSorting:
    """Lists of 2 to 20 distinct words; the reference is the list sorted, one space between words."""

    count: Count = 400
    """Samples that are drawn."""

    def __call__(self, context: Context) -> list[Sample]:
        """The samples, drawn with the context's generator."""
        return [_sample(context) for _ in range(self.count)]


def _sample(context: Context) -> ReferenceSample:
    words = context.generator.sample(common_words(), context.generator.randint(FEWEST_WORDS, MOST_WORDS))
    prompt = f"Sort these words alphabetically: {' '.join(words)}"
    return ReferenceSample(prompt, " ".join(sorted(words)))
