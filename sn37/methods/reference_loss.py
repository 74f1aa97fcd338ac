"""reference_loss: mean over samples of the mean cross-entropy of the reference, given the prompt (protocol 6).

Lower is better. A prompt too long loses its beginning, never the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from sn37.engine.interface import Engine, Progress
from sn37.errors import DataFault
from sn37.methods.base import MethodResult, Row, Tokenizer, method, of_kind
from sn37.methods.losses import Unit, check_unit, loss_result, losses_of
from sn37.methods.tokens import chat_prompt, encode, fitted
from sn37.sample import ReferenceSample, Sample

__all__ = ["ReferenceLoss"]


@method("reference_loss")
@dataclass(frozen=True)
class ReferenceLoss:
    """Mean over samples of the mean cross-entropy of the reference, given the prompt."""

    unit: Unit = "nats_per_token"
    """Of a loss."""
    max_tokens: Annotated[int, Ge(1)] | None = None
    """Leave out samples that have more, prompt and all; a tokenizer that a model brings leaves out none."""

    def __post_init__(self) -> None:
        check_unit(self.unit)

    def rows(self, samples: Sequence[Sample], tokenizer: Tokenizer, sequence_length: int) -> tuple[Row, ...]:
        """One row a sample: the end of the prompt, then the reference. An empty reference has none."""
        found = [
            self._row(i, sample, tokenizer, sequence_length)
            for i, sample in enumerate(of_kind(samples, ReferenceSample, "reference_loss"))
            if sample.reference
        ]
        if not found:
            raise DataFault(f"reference_loss has no sample left of {len(samples)}; expected references, not empty ones")
        return tuple(found)

    def _row(self, i: int, sample: ReferenceSample, tokenizer: Tokenizer, sequence_length: int) -> Row:
        prompt = chat_prompt(tokenizer, sample.prompt, sample.system)
        tokens = encode(tokenizer, sample.reference)
        target, flaw, size = fitted(tokenizer, sample.reference, tokens, sequence_length - 1)
        if self.max_tokens is not None and len(prompt) + len(tokens) > self.max_tokens:
            flaw = "over max_tokens"
        prompt = prompt[-(sequence_length - len(target)) :]
        return Row(i, prompt + target, len(prompt), size, flaw)

    def score(
        self,
        rows: Sequence[Row],
        samples: Sequence[Sample],
        tokenizer: Tokenizer,
        engine: Engine,
        progress: Progress | None = None,
    ) -> MethodResult:
        """Raises ModelFault when a loss is not finite."""
        return loss_result(rows, losses_of(rows, engine, progress), self.unit, samples)
