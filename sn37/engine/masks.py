"""What a model is told where rows share a beginning: each token sees the beginning and its own row only.

Positions count on from the beginning in every end, so that a sliding window and a rotary angle are those of the
row alone. Here is what differs between the architectures: who takes which mask, and who counts positions itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from sn37.engine.packing import Pack

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Shared", "can_share"]

_WINDOWED = frozenset(("mistral", "phi3"))
_NO_ONE = -1


def can_share(model: PreTrainedModel) -> bool:
    """Whether a beginning may be shared: not where a bias by distance is made of a mask that cannot say it."""
    return not getattr(model.config, "alibi", False)


class Shared:
    """The arguments of a forward pass over a batch of packs. A context: what it hooks in is gone at its end."""

    def __init__(self, model: PreTrainedModel, batch: Sequence[Pack], width: int) -> None:
        self.model = model
        owners, positions = zip(*(_line(pack, width) for pack in batch), strict=True)
        self.owners = torch.tensor(owners, device=model.device)  # (B, T)
        self.positions = torch.tensor(positions, device=model.device)  # (B, T)
        self.hook: Any = None

    def __enter__(self) -> dict[str, Any]:
        model: Any = self.model
        if model.config.model_type != "bart":
            return {"attention_mask": self._mask(), "position_ids": self.positions}
        self.hook = model.model.decoder.embed_positions.register_forward_hook(self._true_positions)
        return {"attention_mask": self._mask()}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.hook is not None:
            self.hook.remove()

    def _mask(self) -> Any:
        owners, positions = self.owners, self.positions
        order = torch.arange(owners.shape[1], device=owners.device)
        seen = (order[:, None] >= order) & ((owners[:, :, None] == owners[:, None]) | (owners[:, None] == 0))
        window = getattr(self.model.config, "sliding_window", None)
        kind = str(self.model.config.model_type)
        if window is None or kind not in (*_WINDOWED, "gemma2"):
            return self._added(seen)
        windowed = self._added(seen & (positions[:, :, None] - positions[:, None] < window))
        return {"full_attention": self._added(seen), "sliding_attention": windowed} if kind == "gemma2" else windowed

    def _added(self, seen: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros((), dtype=self.model.dtype, device=seen.device)
        return torch.where(seen, zero, torch.finfo(self.model.dtype).min)[:, None]

    def _true_positions(self, table: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """Bart counts positions itself, the same for all rows."""
        return torch.nn.functional.embedding(self.positions + table.offset, table.weight)


def _line(pack: Pack, width: int) -> tuple[list[int], list[int]]:
    """Whose each column is, 0 for the beginning's and k for the k-th end's; and its position in its own row."""
    first = len(pack.beginning)
    owners, positions = [0] * first, list(range(first))
    for number, end in enumerate(pack.ends, start=1):
        owners.extend([number] * len(end))
        positions.extend(range(first, first + len(end)))
    padding = width - len(owners)
    return owners + [_NO_ONE] * padding, positions + [0] * padding
