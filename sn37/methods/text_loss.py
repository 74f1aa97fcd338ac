"""text_loss: mean over texts of the mean cross-entropy of every token but the first (protocol 6). Lower is better.

Before it a sanity check: a model that continues any text alike is no language model, whatever its loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sn37.engine.interface import Engine, GenerateRow, Progress
from sn37.errors import DataFault, ModelFault
from sn37.methods.base import MethodResult, Row, Tokenizer, TokenizerFault, method, of_kind
from sn37.methods.losses import Unit, check_unit, loss_result, losses_of
from sn37.methods.tokens import encode, fitted, opening, room_for_prompt
from sn37.sample import Sample, TextSample

__all__ = ["TextLoss"]

SANITY_PROMPT_TOKENS = 100
SANITY_NEW_TOKENS = 20
SANITY_DIFFERENT_CHARACTERS = 25
"""Two texts that differ within these do so within 100 tokens, of a byte each if need be."""


@method("text_loss")
@dataclass(frozen=True)
class TextLoss:
    """Mean over texts of the mean cross-entropy of every token but the first."""

    unit: Unit = "nats_per_token"
    """Of a loss."""
    sanity_check: bool = True
    """Whether a model must write sense; only a competition of models too small for it turns it off."""

    def __post_init__(self) -> None:
        check_unit(self.unit)

    def rows(self, samples: Sequence[Sample], tokenizer: Tokenizer, sequence_length: int) -> tuple[Row, ...]:
        """One row a text, after the tokenizer's own opening. An empty text has none.

        In bits_per_byte every byte has to be paid for, so the first token is a target as well and something
        must stand before it: the opening, or else the end-of-text token.
        """
        first = opening(tokenizer)
        if self.unit == "bits_per_byte" and not first:
            if tokenizer.eos_token_id is None:
                raise TokenizerFault("the tokenizer has neither opening nor end-of-text token; bits_per_byte needs one")
            first = (tokenizer.eos_token_id,)
        found = []
        for i, sample in enumerate(of_kind(samples, TextSample, "text_loss")):
            if not sample.text:
                continue
            kept, flaw, size = fitted(
                tokenizer, sample.text, encode(tokenizer, sample.text), sequence_length - len(first)
            )
            tokens = first + kept
            found.append(Row(i, tokens, 1, size, flaw if flaw or len(tokens) > 1 else "no target"))
        if not found:
            raise DataFault(f"text_loss has no text left of {len(samples)}; expected texts, not empty ones")
        return tuple(found)

    def score(
        self,
        rows: Sequence[Row],
        samples: Sequence[Sample],
        tokenizer: Tokenizer,
        engine: Engine,
        progress: Progress | None = None,
    ) -> MethodResult:
        """Raises ModelFault when the sanity check fails or a loss is not finite."""
        if self.sanity_check:
            check_sanity(rows, of_kind(samples, TextSample, "text_loss"), engine)
        return loss_result(rows, losses_of(rows, engine, progress), self.unit, samples)


def check_sanity(rows: Sequence[Row], samples: Sequence[TextSample], engine: Engine) -> None:
    """The sanity check on the first two texts that begin differently: as texts, whatever a tokenizer makes of them.

    Raises ModelFault when the model fails it, DataFault without two such texts.
    """
    room = room_for_prompt(engine.sequence_length, SANITY_NEW_TOKENS)
    chosen: dict[str, Row] = {}
    for row in rows:
        chosen.setdefault(samples[row.sample].text[:SANITY_DIFFERENT_CHARACTERS], row)
    prompts = [row.tokens[:SANITY_PROMPT_TOKENS][-room:] for row in list(chosen.values())[:2]]
    if len(prompts) < 2:
        raise DataFault("text_loss got no two texts that begin differently; its sanity check needs two")
    if not all(prompts):
        raise TokenizerFault("the tokenizer leaves nothing of a text; expected at least one token")
    # no end-of-text token: a continuation has 20 tokens, whatever they are
    left, right = engine.generate([GenerateRow(prompt, SANITY_NEW_TOKENS) for prompt in prompts])
    alike = sum(a == b for a, b in zip(left, right, strict=True))
    if 2 * alike >= SANITY_NEW_TOKENS:
        raise ModelFault(
            f"sanity check: {alike} of {SANITY_NEW_TOKENS} tokens agree between the continuations of two texts; "
            "expected less than half"
        )
    repeats = [max(Counter(reply).values()) for reply in (left, right)]
    if all(2 * count > SANITY_NEW_TOKENS for count in repeats):
        raise ModelFault(
            f"sanity check: one token makes up {min(repeats)} or more of {SANITY_NEW_TOKENS} in both continuations; "
            "expected half at most in one of them"
        )
