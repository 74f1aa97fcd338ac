"""Pairs of questions under the same rules on the form of the answer: the questions of `macrobench`, or of
any hub dataset with a question and its answer (protocol, sections 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from sn37.ifeval import draw_rules, instruction
from sn37.sample import InstructionSample, Sample
from sn37.sources.authors import MIN_STAKE
from sn37.sources.base import Context, Count, source
from sn37.sources.macrobench import REPO
from sn37.sources.questions import Pair, from_dataset, from_macrobench, usable

__all__ = ["IfEval"]

READ_PER_SAMPLE = 3
"""Questions read for each sample wanted: many answers are one word, and such questions are left out."""


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
            found = from_dataset(context, place, (self.question, self.answer), wanted, self.page_rows)
        else:
            found = from_macrobench(context, self.configs, self.min_stake, wanted)
        questions = usable(context, found)
        neighbours = list(pairwise(questions))[: self.count]
        samples: list[Sample] = [_sample(context, first, second, self.version) for first, second in neighbours]
        context.enough(samples, self.min_samples, self.repo or REPO)
        return samples


def _sample(context: Context, first: Pair, second: Pair, version: int) -> InstructionSample:
    rules = draw_rules(context.generator, (first[1], second[1]), version)
    prompts = (instruction(first[0], rules[0]), instruction(second[0], rules[1]))
    data = tuple(rule.data for rule in rules[0]), tuple(rule.data for rule in rules[1])
    return InstructionSample(prompts, data)
