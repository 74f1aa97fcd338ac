"""Rotary positions that follow the length of a text: what they do to batches, and how they begin anew.

Knows nothing of the other kinds of positions: those are the same at any length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["forget_length", "steady_length"]


def steady_length(model: PreTrainedModel) -> int | None:
    """Up to how many tokens a position is encoded alike whatever the length of the row; None for any number.

    Two kinds of rotary positions turn all angles once a text is longer than those the model was first
    trained on: what was cached before is then of no use, and a long neighbour would turn everybody's.
    """
    limits = []
    for module in model.modules():
        kind = getattr(module, "rope_type", None)
        if kind == "longrope":
            config: Any = module.config
            limits.append(int(config.rope_parameters["original_max_position_embeddings"]))
        elif isinstance(kind, str) and "dynamic" in kind:
            limits.append(int(module.original_max_seq_len))  # type: ignore[arg-type]
    return min(limits, default=None)


def forget_length(model: PreTrainedModel) -> None:
    """Rotary positions that follow the longest text seen so far begin anew."""
    for module in model.modules():
        kind = getattr(module, "rope_type", None)
        if isinstance(kind, str) and "dynamic" in kind:
            module.max_seq_len_cached = module.original_max_seq_len
            module.inv_freq = module.original_inv_freq
