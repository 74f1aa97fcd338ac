"""transformers' Trainer, for a competition: its loss is the competition's, its evaluation the validator's.

What it adds: rows that count as in the score, an evaluation that scores the model as it would be published, the stop
when that no longer gets better. Optimizer, schedule, precision, accumulation and checkpoints are transformers'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from sn37.errors import ConfigError
from sn37.miner.batches import Batch, Batches, loss_sum
from sn37.miner.history import History

__all__ = ["CompetitionTrainer", "Watch"]

Score = Callable[[torch.nn.Module, History], dict[str, Any]]
"""Judges the model: `score` and each task's raw score, or `refusal` with its reason."""


class CompetitionTrainer(Trainer):
    """Trains on batches of `sn37.miner.batches`; `score` judges the model and gives its numbers by name."""

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: torch.nn.Module,
        args: TrainingArguments,
        batches: Batches,
        callback: TrainerCallback,
        score: Score,
    ) -> None:
        super().__init__(
            model,
            args,
            data_collator=lambda batches: batches[0],
            train_dataset=batches,
            eval_dataset=batches,  # asked for, but never read: the score has samples of its own
            callbacks=[callback],
        )
        self.remove_callback(PrinterCallback)
        self._score = score

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor]:
        """The batches of a step, and the sum of all their weights: what its loss is divided by."""
        batches = list(islice(epoch_iterator, num_batches))
        return batches, torch.stack([batch["weights"].sum() for batch in batches]).sum().to(device)

    def compute_loss(
        self, model: torch.nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The batch's part of the step's loss: the mean of the rows' losses by their weights."""
        return loss_sum(model, inputs).div(num_items_in_batch)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The competition's score of the model as it is now, on the samples that are held out."""
        assert isinstance(self.model, torch.nn.Module)
        found = self._score(self.model, History.of(self.state))
        metrics = {f"eval_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class Watch(TrainerCallback):
    """Shows how the training goes, and ends it: with an error where a loss is not finite, by itself where the score has
    not become better in `patience` evaluations."""

    def __init__(self, patience: int, show: Callable[[History], None]) -> None:
        self._patience, self._show = patience, show

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Called with each step's loss."""
        history = History.of(state)
        if history.losses and not math.isfinite(history.losses[-1].value):
            raise ConfigError(f"the loss is not finite at step {state.global_step}; choose a lower learning rate")
        self._show(history)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Called with each score."""
        if History.of(state).fruitless >= self._patience:
            control.should_training_stop = True
