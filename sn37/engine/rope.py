"""Rotary positions (RoPE) that follow the length of a text: what they do to batches, and how they begin anew.

Knows nothing of the other kinds of positions: those are the same at any length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["reset_rope", "rope_length_limit"]


def rope_length_limit(model: PreTrainedModel) -> int | None:
    """Up to how many tokens a position is encoded alike whatever the length of the row; None for any number.

    Two kinds of rotary positions turn all angles once a text is longer than those the model was first
    trained on: what was cached before is then of no use, and a long neighbor would turn everybody's.
    """
    limits = [cast("int", module.original_max_seq_len) for module in _rotary(model, "dynamic")]
    for module in _rotary(model, "longrope"):
        config = cast("PreTrainedModel", module).config
        limits.append(int(config.rope_parameters["original_max_position_embeddings"]))
    return min(limits, default=None)


def reset_rope(model: PreTrainedModel) -> None:
    """Rotary positions that follow the longest text seen so far begin anew."""
    for module in _rotary(model, "dynamic"):
        module.max_seq_len_cached = module.original_max_seq_len
        module.inv_freq = module.original_inv_freq


def _rotary(model: PreTrainedModel, kind: str) -> Iterator[nn.Module]:
    """The modules that work out rotary positions of a kind."""
    for module in model.modules():
        rope_type = getattr(module, "rope_type", None)
        if isinstance(rope_type, str) and kind in rope_type:
            yield module
