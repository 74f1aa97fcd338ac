"""choice_likelihood: the answer is the choice with the highest log-likelihood; nothing to parse (protocol 6).

Score = the share of wrong answers; lower is better. A tie is no answer, so a tokenizer or a
model that cannot tell the choices apart gains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sn37.engine.interface import Engine, Progress
from sn37.errors import DataFault
from sn37.methods.base import MethodResult, Row, Tokenizer, TokenizerFault, method, of_kind
from sn37.methods.losses import Fidelity, check_unit, losses_of
from sn37.methods.tokens import chat_prompt, encode
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
        fidelity = Fidelity(tokenizer)
        found = []
        for i, sample in enumerate(of_kind(samples, ChoiceSample, "choice_likelihood")):
            if not sample.choices or not all(choice.strip() for choice in sample.choices):
                raise DataFault(
                    f"sample {i} has the choices {sample.choices!r}; expected one or more, none of them empty"
                )
            prompt = chat_prompt(tokenizer, sample.prompt)
            choices = [encode(tokenizer, choice) for choice in sample.choices]
            if min(map(len, choices)) == 0 or max(map(len, choices)) >= sequence_length:
                raise TokenizerFault(f"a choice of sample {i} has no tokens, or {sequence_length} or more")
            prompt = prompt[-(sequence_length - max(map(len, choices))) :]
            for text, choice in zip(sample.choices, choices, strict=True):
                size = fidelity.target_bytes(text, choice, whole=True)
                found.append(Row(i, prompt + choice, len(prompt), size))
        fidelity.check()
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
        losses = losses_of(rows, engine, progress)
        per_row = iter(zip(rows, losses, strict=True))
        values, details = [], []
        for sample in of_kind(samples, ChoiceSample, "choice_likelihood"):
            pairs = [next(per_row) for _ in sample.choices]
            costs = [
                loss / math.log(2) / row.target_bytes if self.unit == "bits_per_byte" else loss for row, loss in pairs
            ]
            best = [choice for choice, cost in zip(sample.choices, costs, strict=True) if cost == min(costs)]
            answer = best[0] if len(best) == 1 else None
            values.append(0.0 if answer == sample.answer else 1.0)
            details.append({"answer": answer, "expected": sample.answer, self.unit: costs})
        return MethodResult(math.fsum(values) / len(values), tuple(values), tuple(details))
