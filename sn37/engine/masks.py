"""What a model is told of a batch: which tokens each token sees, and at which position it stands.

Positions count on from the shared prefix in every suffix, so that a sliding window and a rotary angle are those of the
row alone. Who takes which mask, and who counts positions itself, is said in `sn37.engine.architectures`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from sn37.engine.architectures import architecture_of
from sn37.engine.packing import Pack

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Mask", "attention_mask", "mask_with_infinity", "packed_inputs", "told_positions"]

Mask = torch.Tensor | dict[str, torch.Tensor]
"""A model's `attention_mask`; by the kind of layer where its layers differ."""

_PADDING = -1


def attention_mask(model: PreTrainedModel, visible: torch.Tensor, distance: torch.Tensor) -> Mask:
    """The mask that is added to attention's scores: 0 where a key is seen, else -inf.

    visible: (B, Q, K), whether a query may see a key at all; distance: (B, Q, K), how many positions before the query
    the key stands, for layers with a sliding window.
    """
    architecture = architecture_of(model)
    window = architecture.sliding_window(model.config)
    full = _additive(visible, model.dtype)
    windowed = full if window is None else _additive(visible & (distance < window), model.dtype)
    if architecture.windowed == "some layers":
        return {"full_attention": full, "sliding_attention": windowed}
    return windowed


def _additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(B, Q, K) -> (B, 1, Q, K), the same for all heads."""
    zero = torch.zeros((), dtype=dtype, device=visible.device)
    return torch.where(visible, zero, -torch.inf)[:, None]


@contextmanager
def told_positions(model: PreTrainedModel, positions: torch.Tensor) -> Iterator[dict[str, torch.Tensor]]:
    """The arguments that tell `model` the positions (B, T) of the tokens of a forward pass within this context.

    A model with a table of positions counts them itself, the same for all rows: what it looks up is replaced.
    """
    table_name = architecture_of(model).position_table
    if not table_name:
        yield {"position_ids": positions}
        return
    table = cast("nn.Embedding", model.base_model.get_submodule(table_name))
    offset = cast("int", table.offset)  # rows of the table before the one of position 0

    def look_up(*_: object) -> torch.Tensor:
        return nn.functional.embedding(positions + offset, table.weight)

    hook = table.register_forward_hook(look_up)
    try:
        yield {}
    finally:
        hook.remove()


@contextmanager
def packed_inputs(model: PreTrainedModel, batch: Sequence[Pack], width: int) -> Iterator[dict[str, Mask]]:
    """The arguments of a forward pass over packs padded to `width`: a token sees its prefix and its own row only."""
    lines = [_line(pack, width) for pack in batch]
    owners, positions = (torch.tensor(part, device=model.device) for part in zip(*lines, strict=True))  # (B, T) each
    column = torch.arange(width, device=model.device)
    causal = column[:, None] >= column  # (T, T), query by key
    # Suffix k sees what it owns itself and what owner 0, the prefix, owns; padding sees padding, and is not read.
    related = (owners[:, :, None] == owners[:, None]) | (owners[:, None] == 0)  # (B, T, T)
    distance = positions[:, :, None] - positions[:, None]
    with told_positions(model, positions) as arguments:
        yield {"attention_mask": attention_mask(model, causal & related, distance), **arguments}


def _line(pack: Pack, width: int) -> tuple[list[int], list[int]]:
    """Whose each column is, 0 for the prefix's and k for the k-th suffix's; and its position in its own row."""
    first = len(pack.prefix)
    owners, positions = [0] * first, list(range(first))
    for owner, suffix in enumerate(pack.suffixes, start=1):
        owners.extend([owner] * len(suffix))
        positions.extend(range(first, first + len(suffix)))
    padding = width - len(owners)
    return owners + [_PADDING] * padding, positions + [0] * padding


def mask_with_infinity(model: PreTrainedModel) -> None:
    """Lets attention mask with -inf wherever transformers adds the lowest finite number instead.

    Weights can make the scores of visible keys as low as that number, and attention would then reach those masked.
    """
    name = architecture_of(model).attention
    for path, module in model.named_modules():
        if path.rpartition(".")[2] == name:
            module.register_forward_pre_hook(_with_infinity, with_kwargs=True)


def _with_infinity(
    attention: nn.Module, args: tuple[object, ...], arguments: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    mask = arguments.get("attention_mask")
    if isinstance(mask, torch.Tensor) and mask.is_floating_point():
        lowest = torch.finfo(mask.dtype).min
        arguments = {**arguments, "attention_mask": mask.masked_fill(mask <= lowest / 2, -torch.inf)}
    return args, arguments
