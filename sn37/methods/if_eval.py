"""if_eval: greedy replies judged by the rules of their prompts (protocol 6). Lower is better.

A reply that follows k of n rules costs 1 - (k/n)^2 and counts n times in the mean. A model that
answers two different questions alike, in over a tenth of the samples, scores 1.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sn37 import ifeval
from sn37.engine.interface import Engine, GenerateRow, Progress
from sn37.methods.base import MethodResult, Row, Tokenizer, method, of_kind
from sn37.methods.tokens import chat_prompt, decode, end_of_text, room_for_prompt
from sn37.sample import InstructionSample, Sample

__all__ = ["IfEval", "similarity"]

MAX_NEW_TOKENS = 200
REPETITION_PENALTY = 1.2
ALIKE_ABOVE = 0.6
MAX_ALIKE_SHARE = 0.1


def similarity(left: str, right: str) -> float:
    """How alike two replies are, in [0, 1]: difflib's ratio by characters, which does not match on blanks."""
    return difflib.SequenceMatcher(lambda character: character in " \t", left, right).ratio()


@method("if_eval")
@dataclass(frozen=True)
class IfEval:
    """Mean cost of a rule's reply."""

    def rows(self, samples: Sequence[Sample], tokenizer: Tokenizer, sequence_length: int) -> tuple[Row, ...]:
        """Two rows a sample, one for each prompt: its end, with room for the reply."""
        room = room_for_prompt(sequence_length, MAX_NEW_TOKENS)
        found = []
        for i, sample in enumerate(of_kind(samples, InstructionSample, "if_eval")):
            for prompt in sample.prompts:
                tokens = chat_prompt(tokenizer, prompt)[-room:]
                found.append(Row(i, tokens, len(tokens)))
        return tuple(found)

    def score(
        self,
        rows: Sequence[Row],
        samples: Sequence[Sample],
        tokenizer: Tokenizer,
        engine: Engine,
        progress: Progress | None = None,
    ) -> MethodResult:
        """The mean cost of a rule's reply; each sample's value is the mean cost over the rules of its two replies."""
        eos = end_of_text(tokenizer)
        asked = [
            GenerateRow(row.tokens, MAX_NEW_TOKENS, repetition_penalty=REPETITION_PENALTY, eos=eos) for row in rows
        ]
        replies = iter([decode(tokenizer, new, special=False).strip() for new in engine.generate(asked, progress)])
        values, weights, details, alike = [], [], [], 0
        for sample in of_kind(samples, InstructionSample, "if_eval"):
            pair = (next(replies), next(replies))
            rules = [[ifeval.rule_of(data) for data in of_prompt] for of_prompt in sample.rules]
            followed = [[rule.holds(reply) for rule in mine] for mine, reply in zip(rules, pair, strict=True)]
            counts = [len(held) for held in followed]
            costs = [count * cost(sum(held), count) for held, count in zip(followed, counts, strict=True)]
            values.append(sum(costs) / sum(counts))
            weights.append(sum(counts))
            ratio = similarity(*pair)
            alike += ratio > ALIKE_ABOVE
            details.append({"replies": list(pair), "followed": followed, "similarity": ratio})
        if alike > MAX_ALIKE_SHARE * len(values):
            note = f"the replies to two questions are alike in {alike} of {len(values)} samples: the score is 1"
            return MethodResult(1.0, tuple(values), tuple(details), note)
        total = math.fsum(value * weight for value, weight in zip(values, weights, strict=True))
        note = "each value counts as often as its sample has rules"
        return MethodResult(total / sum(weights), tuple(values), tuple(details), note)


def cost(followed: int, rules: int) -> float:
    """What a reply that follows so many of its rules costs, in [0, 1]."""
    return 1 - (followed / rules) ** 2
