"""Tiny Llamas from random weights, trained in seconds on rows in fixed proportions.

Plain AdamW: the same rows give the same model on the same machine. What finetunes a model for a competition is
`sn37.miner.training`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from sn37.engine.interface import LossRow
from sn37.errors import ConfigError
from sn37.miner.training import quiet

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM

__all__ = ["Part", "save", "small_llama", "train"]

_WARM_UP_STEPS = 11


@dataclass(frozen=True)
class Part:
    """One ingredient of the training: its rows, and how many of them each step takes."""

    rows: tuple[LossRow, ...]
    per_step: int

    def __post_init__(self) -> None:
        if not 0 < self.per_step <= len(self.rows):
            raise ConfigError(f"a step takes {self.per_step} rows of {len(self.rows)}; expected 1 to all of them")


def small_llama(
    tokenizer: Any, *, hidden: int = 64, layers: int = 2, heads: int = 2, positions: int = 256, seed: int = 0
) -> LlamaForCausalLM:
    """A Llama of random weights for this tokenizer, in float32, with a head of its own."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=1 + max(tokenizer.get_vocab().values()),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=positions,
        initializer_range=0.06,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def train(model: LlamaForCausalLM, parts: Sequence[Part], learning_rate: float = 0.01) -> Iterator[float]:
    """Train the model in place, one step at each `next`, without end; it is whole, and may be saved, between two steps.

    Gives each step's loss in nats: the mean over the parts, whatever their size, of the part's mean cross-entropy.
    """
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    decks = [_shuffled(part, Random(f"0:{i}")) for i, part in enumerate(parts)]
    device = next(model.parameters()).device
    model.train()
    for number in itertools.count(1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, number / _WARM_UP_STEPS)
        optimizer.zero_grad()
        total = 0.0
        for deck in decks:
            loss = _loss(model, next(deck), device) / len(decks)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if not math.isfinite(total):
            raise ConfigError(f"the loss is not finite at step {number}; choose a lower learning rate")
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield total


def _shuffled(part: Part, random: Random) -> Iterator[list[LossRow]]:
    """The rows of step after step: all once in random order, then all again in another."""
    deck: list[LossRow] = []
    while True:
        while len(deck) < part.per_step:
            deck.extend(random.sample(part.rows, len(part.rows)))
        yield deck[: part.per_step]
        del deck[: part.per_step]


def _loss(model: LlamaForCausalLM, rows: Sequence[LossRow], device: Any) -> Tensor:
    """Mean cross-entropy of the targets of all rows, padded on the right, where nothing before can see it."""
    import torch
    from torch.nn.functional import cross_entropy

    length = max(len(row.tokens) for row in rows)
    tokens = torch.zeros(len(rows), length, dtype=torch.long)
    targets = torch.full((len(rows), length), -100)
    for i, row in enumerate(rows):
        tokens[i, : len(row.tokens)] = torch.tensor(row.tokens)
        targets[i, row.start : len(row.tokens)] = torch.tensor(row.tokens[row.start :])
    tokens, targets = tokens.to(device), targets.to(device)
    hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
    wanted = targets[:, 1:] != -100
    return cross_entropy(model.lm_head(hidden[wanted]).float(), targets[:, 1:][wanted])


def save(model: LlamaForCausalLM, tokenizer: Any, folder: Path) -> Path:
    """Write the model and its tokenizer as the files a submission consists of. Returns the folder."""
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
