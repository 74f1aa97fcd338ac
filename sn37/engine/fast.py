"""The engine that validators use: batched losses and batched generation, exactly what the reference gives.

Exact means: losses to 1e-5 and the same tokens in float32, whatever the batch. In bfloat16 the plan of batches is
canonical, made from the rows and a budget that belongs to the competition; `budget.halvings` says whether this
machine could keep to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sn37.engine.generation import generate
from sn37.engine.interface import GenerateRow, LossRow, Progress
from sn37.engine.losses import losses
from sn37.engine.memory import Budget

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["FastEngine"]

_NOISE_ROWS = 16
"""On how many of the shortest rows the noise is measured."""


class FastEngine:
    """An `Engine` over `model`; rows have at most `sequence_length` tokens, batches about `batch_tokens`."""

    def __init__(self, model: PreTrainedModel, sequence_length: int, batch_tokens: int) -> None:
        self.model = model
        self.sequence_length = sequence_length
        self.batch_tokens = batch_tokens
        self.budget = Budget(batch_tokens)
        self._shortest: Sequence[LossRow] = ()

    def plan(self) -> dict[str, int | float]:
        """How the batches were made: {"batch_tokens", "halvings"}, and where memory forced halvings {"noise"} as well.

        noise: the largest change of a row's mean loss, in nats, that another shape of its batch was seen to make.
        """
        plan: dict[str, int | float] = {"batch_tokens": self.batch_tokens, "halvings": self.budget.halvings}
        if self.budget.halvings and self._shortest:
            alone, together = (
                losses(self.model, self._shortest, sequence_length=self.sequence_length, budget=Budget(tokens))
                for tokens in (1, self.budget.tokens)
            )
            plan["noise"] = max(
                abs(a - b) / len(row.targets) for a, b, row in zip(alone, together, self._shortest, strict=True)
            )
        return plan

    def losses(self, rows: Sequence[LossRow], progress: Progress | None = None) -> list[float]:
        """For each row the sum of cross-entropies of its targets, in nats."""
        shortest = sorted(rows, key=lambda row: (len(row.tokens), row.tokens))[:_NOISE_ROWS]
        self._shortest = shortest or self._shortest
        return losses(self.model, rows, sequence_length=self.sequence_length, budget=self.budget, progress=progress)

    def generate(self, rows: Sequence[GenerateRow], progress: Progress | None = None) -> list[list[int]]:
        """For each row its greedy continuation; a tie goes to the lower token id."""
        return generate(self.model, rows, sequence_length=self.sequence_length, budget=self.budget, progress=progress)
