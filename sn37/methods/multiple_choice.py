"""multiple_choice: greedy, the first word of the reply that equals a choice is the answer (protocol 6).

0 for a right answer, 1 for a wrong one or none; score = the mean; lower is better. A row
ends as soon as its answer is decided: the same result for fewer tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sn37.engine.interface import Engine, GenerateRow, Progress
from sn37.errors import DataFault
from sn37.methods.base import MethodResult, Row, Tokenizer, method, of_kind
from sn37.methods.tokens import chat_prompt, decode, end_of_text, room_for_prompt
from sn37.sample import ChoiceSample, Sample

__all__ = ["MultipleChoice", "answer_of"]

MAX_NEW_TOKENS = 20
REPETITION_PENALTY = 1.1

_WORD = re.compile(r"\w+")


def answer_of(reply: str, choices: Collection[str]) -> str | None:
    """The first word of the reply that equals a choice; every non-word character counts as a space."""
    return next((word for word in _WORD.findall(reply) if word in choices), None)


@method("multiple_choice")
@dataclass(frozen=True)
class MultipleChoice:
    """Share of questions whose reply does not name the right choice first."""

    def rows(self, samples: Sequence[Sample], tokenizer: Tokenizer, sequence_length: int) -> tuple[Row, ...]:
        """One row a question: the end of its prompt, with room for the reply."""
        room = room_for_prompt(sequence_length, MAX_NEW_TOKENS)
        found = []
        for i, sample in enumerate(of_kind(samples, ChoiceSample, "multiple_choice")):
            if not all(_WORD.fullmatch(choice) for choice in sample.choices):
                raise DataFault(
                    f"sample {i} has the choices {sample.choices!r}; multiple_choice expects single words: "
                    "use choice_likelihood for others"
                )
            tokens = chat_prompt(tokenizer, sample.prompt)[-room:]
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
        """Share of questions without the right answer."""
        questions = of_kind(samples, ChoiceSample, "multiple_choice")
        asked = [
            GenerateRow(
                row.tokens,
                MAX_NEW_TOKENS,
                repetition_penalty=REPETITION_PENALTY,
                eos=end_of_text(tokenizer),
                stop=stop_when_decided(tokenizer, questions[row.sample].choices),
            )
            for row in rows
        ]
        values, details = [], []
        for question, new in zip(questions, engine.generate(asked, progress), strict=True):
            reply = decode(tokenizer, new, special=False)
            answer = answer_of(reply, question.choices)
            values.append(0.0 if answer == question.answer else 1.0)
            details.append({"answer": answer, "expected": question.answer, "reply": reply, "tokens": len(new)})
        return MethodResult(math.fsum(values) / len(values), tuple(values), tuple(details))


def stop_when_decided(tokenizer: Tokenizer, choices: Collection[str]) -> Callable[[Sequence[int]], bool]:
    """Whether no further token can change the answer.

    A word may still grow while it is the last thing said, and so it may while the bytes after
    it do not yet make a character: they decode to U+FFFD at the end of the text.
    """

    def decided(new: Sequence[int]) -> bool:
        said = decode(tokenizer, new, special=False).rstrip("\ufffd")
        return any(found.group() in choices and found.end() < len(said) for found in _WORD.finditer(said))

    return decided
