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


class FastEngine:
    """An `Engine` over `model`; rows have at most `sequence_length` tokens, batches about `batch_tokens`."""

    def __init__(self, model: PreTrainedModel, sequence_length: int, batch_tokens: int) -> None:
        self.model = model
        self.sequence_length = sequence_length
        self.budget = Budget(batch_tokens)

    def losses(self, rows: Sequence[LossRow], progress: Progress | None = None) -> list[float]:
        """For each row the sum of cross-entropies of its targets, in nats."""
        return losses(self.model, rows, sequence_length=self.sequence_length, budget=self.budget, progress=progress)

    def generate(self, rows: Sequence[GenerateRow], progress: Progress | None = None) -> list[list[int]]:
        """For each row its greedy continuation; a tie goes to the lower token id."""
        return generate(self.model, rows, sequence_length=self.sequence_length, budget=self.budget, progress=progress)
