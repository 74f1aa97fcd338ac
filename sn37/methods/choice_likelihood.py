"""choice_likelihood: the answer is the choice with the highest log-likelihood; nothing to parse (protocol 6).

Score = the share of wrong answers; lower is better. A tie is no answer, so a tokenizer or a
model that cannot tell the choices apart gains nothing; so is a choice that the tokenizer cannot say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sn37.engine.interface import Engine, Progress
from sn37.errors import DataFault
from sn37.methods.base import MethodResult, Row, Tokenizer, method, of_kind
from sn37.methods.losses import check_unit, losses_of
from sn37.methods.tokens import chat_prompt, encode, fitted
from sn37.sample import ChoiceSample, Sample

__all__ = ["ChoiceLikelihood"]

Unit = Literal["nats", "bits_per_byte"]


@method("choice_likelihood")
@dataclass(frozen=True)
class ChoiceLikelihood:
    """Share of questions whose most likely choice is not the right one."""

    unit: Unit = "nats"
    """What choices compete by: their whole loss, or bits per byte of the choice."""

    def __post_init__(self) -> None:
        check_unit(self.unit, Unit)

    def rows(self, samples: Sequence[Sample], tokenizer: Tokenizer, sequence_length: int) -> tuple[Row, ...]:
        """One row a choice, the choices of a sample in a row, all after the same tokens of its prompt."""
        found = []
        for i, sample in enumerate(of_kind(samples, ChoiceSample, "choice_likelihood")):
            if not sample.choices or not all(choice.strip() for choice in sample.choices):
                raise DataFault(
                    f"sample {i} has the choices {sample.choices!r}; expected one or more, none of them empty"
                )
            prompt = chat_prompt(tokenizer, sample.prompt)
            choices = [fitted(tokenizer, text, encode(tokenizer, text), sequence_length - 1) for text in sample.choices]
            prompt = prompt[-(sequence_length - max(len(tokens) for tokens, _, _ in choices)) :]
            found += [Row(i, prompt + tokens, len(prompt), size, flaw) for tokens, flaw, size in choices]
        return tuple(found)

    def score(
        self,
        rows: Sequence[Row],
        samples: Sequence[Sample],
        tokenizer: Tokenizer,
        engine: Engine,
        progress: Progress | None = None,
    ) -> MethodResult:
        """Raises ModelFault when a loss is not finite."""
        per_row = iter(zip(rows, losses_of(rows, engine, progress), strict=True))
        values, details = [], []
        for sample in of_kind(samples, ChoiceSample, "choice_likelihood"):
            costs = [self._cost(*next(per_row)) for _ in sample.choices]
            answer = _answer(sample.choices, costs)
            values.append(0.0 if answer == sample.answer else 1.0)
            details.append({"answer": answer, "expected": sample.answer, self.unit: costs})
        return MethodResult(math.fsum(values) / len(values), tuple(values), tuple(details))

    def _cost(self, row: Row, loss: float | None) -> float | None:
        return loss / math.log(2) / row.target_bytes if self.unit == "bits_per_byte" and loss is not None else loss


def _answer(choices: Sequence[str], costs: Sequence[float | None]) -> str | None:
    """The cheapest choice; None for a tie, or where a choice cannot be measured."""
    measured = [cost for cost in costs if cost is not None]
    if len(measured) < len(costs) or measured.count(min(measured)) > 1:
        return None
    return choices[costs.index(min(measured))]
