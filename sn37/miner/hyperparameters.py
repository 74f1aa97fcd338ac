"""How a training goes, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sn37.documents import mistakes
from sn37.errors import ConfigError
from sn37.values import Checked, Rule

__all__ = ["Hyperparameters"]


@dataclass(frozen=True)
class Hyperparameters(Checked):
    """How a training goes; the defaults suit a model of some billion parameters on one GPU."""

    steps: int = 500
    """Optimizer steps at most."""
    learning_rate: float | None = None
    """At its highest, after the warm-up; from there it falls by a cosine. None: 1e-5, with LoRA 2e-4."""
    warmup_steps: int = 20
    """Steps in which the learning rate rises."""
    batch_tokens: int = 8_192
    """Tokens of one batch at most, but for a single row that is longer: what has to fit into memory."""
    accumulation: int = 4
    """Batches of one step."""
    draws: int = 16
    """How many epochs' samples are learnt from."""
    evaluate_every: int = 50
    """Steps between two scores and checkpoints."""
    patience: int = 3
    """Stop after so many scores that are not better than the best."""
    lora_rank: int = 0
    """Train adapters of this rank (LoRA), merged before the model is saved; 0: all weights."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, a third more time."""
    weights: Literal["auto", "bfloat16", "float32"] = "auto"
    """What the weights are trained in; auto: float32, and with LoRA the competition's dtype. A GPU computes in bfloat16
    either way."""
    seed: int = 0
    """Decides the samples, their order, dropout and adapters."""

    RULES = (
        *(
            Rule(name, lambda number: number >= 1, "1 or more")
            for name in ("steps", "batch_tokens", "accumulation", "draws", "evaluate_every", "patience")
        ),
        Rule("learning_rate", lambda rate: rate is None or 0 < rate < 1, "a number in (0, 1)"),
        *(Rule(name, lambda number: number >= 0, "0 or more") for name in ("warmup_steps", "lora_rank")),
        Rule("weights", ("auto", "bfloat16", "float32").__contains__, "auto, bfloat16 or float32"),
    )

    @classmethod
    def of(cls, **given: object) -> Hyperparameters:
        """From what a person wrote. Raises ConfigError naming every field, what it got and what is expected.

        >>> Hyperparameters.of(steps=200, lora_rank=16).steps
        200
        """
        found, wrong = mistakes(cls, given, "hyperparameters")
        if found is None:
            raise ConfigError("\n".join(wrong))
        return found
