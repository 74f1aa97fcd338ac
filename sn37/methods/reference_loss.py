"""reference_loss: mean over samples of the mean cross-entropy of the reference, given the prompt (protocol 6).

Lower is better. A prompt too long loses its beginning, never the reference. Only a reference that alone
fills the whole sequence loses its end: leaving the sample out would let a tokenizer that inflates
a hard text choose its samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from sn37.engine.interface import Engine, Progress
from sn37.errors import DataFault
from sn37.methods.base import MethodResult, Row, Tokenizer, method, of_kind
from sn37.methods.losses import Fidelity, Unit, check_unit, loss_result, losses_of
from sn37.methods.tokens import chat_prompt, encode
from sn37.sample import ReferenceSample, Sample

__all__ = ["ReferenceLoss"]


@method("reference_loss")
@dataclass(frozen=True)
class ReferenceLoss:
    """Mean over samples of the mean cross-entropy of the reference, given the prompt."""

    unit: Unit = "nats_per_token"
    """Of a loss."""
    max_tokens: Annotated[int, Ge(1)] | None = None
    """Leave out samples longer than this with their prompt; only fair where the competition fixes the tokenizer."""

    def __post_init__(self) -> None:
        check_unit(self.unit)

    def rows(self, samples: Sequence[Sample], tokenizer: Tokenizer, sequence_length: int) -> tuple[Row, ...]:
        """One row a sample: the end of the prompt, then the reference."""
        fidelity = Fidelity(tokenizer)
        found = []
        for i, sample in enumerate(of_kind(samples, ReferenceSample, "reference_loss")):
            prompt = chat_prompt(tokenizer, sample.prompt, sample.system)
            tokens = encode(tokenizer, sample.reference)
            reference = tokens[: sequence_length - 1]
            size = fidelity.target_bytes(sample.reference, reference, whole=len(reference) == len(tokens))
            too_long = self.max_tokens is not None and len(prompt) + len(tokens) > self.max_tokens
            if reference and size and not too_long:
                prompt = prompt[-(sequence_length - len(reference)) :]
                found.append(Row(i, prompt + reference, len(prompt), size if self.unit == "bits_per_byte" else 0))
        fidelity.check()
        if not found:
            within = "" if self.max_tokens is None else f", within {self.max_tokens} tokens"
            raise DataFault(
                f"reference_loss has no sample left of {len(samples)}; expected references that are not empty{within}"
            )
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
        return loss_result(rows, losses_of(rows, engine, progress), self.unit, len(samples))
