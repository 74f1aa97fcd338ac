"""The reference: one row at a time, all logits, no cache. Slow, and easy to believe.

Every faster engine is tested against this one. It is what the live network's validators run, but for
the precision of the last step: log-probabilities are computed in float32, whatever the model's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch

from sn37.engine.interface import GenerateRow, LossRow, Progress
from sn37.engine.rope import reset_rope

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ReferenceEngine", "penalized"]


class ReferenceEngine:
    """An `Engine` over `model`; rows have at most `sequence_length` tokens."""

    def __init__(self, model: PreTrainedModel, sequence_length: int) -> None:
        self.model = model
        self.sequence_length = sequence_length

    def plan(self) -> dict[str, int | float]:
        """{}: no row shares a batch with another."""
        return {}

    def losses(self, rows: Sequence[LossRow], progress: Progress | None = None) -> list[float]:
        """For each row the sum of cross-entropies of its targets, in nats."""
        results = []
        with torch.inference_mode():
            for row in rows:
                _check(row.tokens, self.sequence_length)
                logits = self._logits(row.tokens)[row.start - 1 : -1].float()  # (targets, V)
                # log_softmax subtracts the row's maximum first, and a log-probability is never above 0.
                log_probs = torch.log_softmax(logits, dim=-1).clamp(max=0.0)
                targets = torch.tensor(row.targets, device=logits.device)
                results.append(0.0 - float(log_probs.gather(1, targets[:, None]).double().sum()))
                if progress is not None:
                    progress(1, len(row.tokens))
        return results

    def generate(self, rows: Sequence[GenerateRow], progress: Progress | None = None) -> list[list[int]]:
        """For each row its greedy continuation; a tie goes to the lower token id."""
        results = []
        with torch.inference_mode():
            for row in rows:
                _check(row.tokens, self.sequence_length - row.max_new_tokens)
                new = self._continue(row)
                results.append(new)
                if progress is not None:
                    progress(1, len(row.tokens) + len(new))
        return results

    def _continue(self, row: GenerateRow) -> list[int]:
        new: list[int] = []
        while len(new) < row.max_new_tokens:
            seen = (*row.tokens, *new)
            token = int(penalized(self._logits(seen)[-1].float(), seen, row.repetition_penalty).argmax())
            if token in row.eos:
                break
            new.append(token)
            if row.stop is not None and row.stop(new):
                break
        return new

    def _logits(self, tokens: Sequence[int]) -> torch.Tensor:
        """The logits (T, V) after each token, in the model's dtype."""
        reset_rope(self.model)
        ids = torch.tensor([tokens], device=self.model.device)
        return cast("torch.Tensor", self.model(input_ids=ids, use_cache=False).logits[0])


def penalized(logits: torch.Tensor, seen: Sequence[int], penalty: float) -> torch.Tensor:
    """`logits` (V,) with the tokens in `seen` made less likely: divided by `penalty` where positive, else multiplied.

    The repetition penalty of CTRL, https://arxiv.org/abs/1909.05858, as transformers applies it.
    """
    if penalty == 1.0:
        return logits
    ids = torch.tensor(sorted(set(seen)), device=logits.device)
    scores = logits[ids]
    return logits.index_put((ids,), torch.where(scores > 0, scores / penalty, scores * penalty))


def _check(tokens: Sequence[int], limit: int) -> None:
    if not 0 < len(tokens) <= limit:
        raise ValueError(f"a row has {len(tokens)} tokens; expected 1 to {limit}")
