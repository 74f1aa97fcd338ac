"""One forward pass over a cache of rows: the last logits of prompts, and of one more token of every row.

Here is all that differs between the architectures: who masks what, who is told positions and who counts
them itself, whose positions change with the length of the text. Knows nothing of which rows run when.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from sn37.engine.cache import Entering, Kept, Stepping
from sn37.engine.reference import ReferenceEngine
from sn37.engine.rotary import forget_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Decoder", "Uncached", "words_by_rows"]

_FEW_ROWS = 8
_WORDS = 4_096
_WINDOWED = frozenset(("mistral", "phi3"))
_PLAIN = frozenset(("bart", "falcon", "gemma", "gpt_neox", "llama", "phi"))


class Decoder:
    """`model`, asked for the logits of a row's last token only. A context: what it hooks in is gone at its end."""

    def __init__(self, model: PreTrainedModel) -> None:
        config: Any = model.config
        self.kind = str(config.model_type)
        if self.kind not in _PLAIN | _WINDOWED | {"gemma2"}:
            raise ValueError(f"generation knows no {self.kind!r} models; expected an architecture the protocol allows")
        self.model = model
        self.window: int | None = getattr(config, "sliding_window", None)
        self.alibi = self.kind == "falcon" and bool(config.alibi)
        self.last: torch.Tensor | None = None
        self.positions: torch.Tensor | None = None
        self.hooks: list[Any] = []

    def __enter__(self) -> Decoder:
        model: Any = self.model
        head = model.get_output_embeddings()
        self.hooks.append(head.register_forward_pre_hook(self._keep_last))
        if head.weight.device.type == "cpu" and head.weight.dtype == torch.float32:
            head.forward = partial(words_by_rows, head)
        if self.kind == "bart":
            self.hooks.append(model.model.decoder.embed_positions.register_forward_hook(self._true_positions))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()
        self.model.get_output_embeddings().__dict__.pop("forward", None)  # type: ignore[no-untyped-call]

    def read(self, ids: torch.Tensor, last: torch.Tensor, view: Entering | Kept) -> torch.Tensor:
        """The logits (N, V) in float32 after token `last[i]` of each row of `ids` (N, T), padded at the end."""
        self.last = last
        # The model's own causal mask is right: what is padded is behind, and the view says what is before.
        positions = torch.arange(view.before, view.before + ids.shape[1], device=ids.device)[None]
        return self._logits(ids, positions, None, view)

    def step(self, ids: torch.Tensor, positions: torch.Tensor, view: Stepping) -> torch.Tensor:
        """The logits (N, V) in float32 after the tokens `ids` (N,) at `positions` (N,)."""
        self.last = None
        self.positions = positions
        try:
            return self._logits(ids[:, None], positions[:, None], self._mask(positions, view.columns), view)
        finally:
            self.positions = None

    def _logits(self, ids: torch.Tensor, positions: torch.Tensor, mask: Any, view: Any) -> torch.Tensor:
        told = {} if self.kind == "bart" else {"position_ids": positions}
        model: Any = self.model
        output = model(input_ids=ids, attention_mask=mask, past_key_values=view, use_cache=True, **told)
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _mask(self, positions: torch.Tensor, columns: int) -> Any:
        """Which columns (N, columns) each row's token sees: its own and those before."""
        column = torch.arange(columns, device=positions.device)
        seen = column <= positions[:, None]
        if self.alibi:
            return seen.long()  # the bias by distance is made of it
        full = self._added(seen)
        if self.window is None or self.kind in _PLAIN:
            return full
        windowed = self._added(seen & (column > positions[:, None] - self.window))
        return {"full_attention": full, "sliding_attention": windowed} if self.kind == "gemma2" else windowed

    def _added(self, seen: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros((), dtype=self.model.dtype, device=seen.device)
        return torch.where(seen, zero, torch.finfo(self.model.dtype).min)[:, None, None]

    def _keep_last(self, head: Any, inputs: tuple[Any, ...]) -> Any:
        """Before the head: of the hidden states (N, T, H) those of each row's last token, (N, 1, H)."""
        if self.last is None:
            return None
        hidden = inputs[0]
        return hidden[torch.arange(len(hidden), device=hidden.device), self.last][:, None], *inputs[1:]

    def _true_positions(self, table: Any, inputs: Any, output: torch.Tensor) -> Any:
        """Bart counts positions itself, the same for all rows."""
        if self.positions is None:
            return None
        return torch.nn.functional.embedding(self.positions[:, None] + table.offset, table.weight)


def words_by_rows(head: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What the linear layer `head` gives for hidden states (..., H): logits (..., V).

    A processor multiplies a wide matrix with the hidden states of some rows up to twice as fast as those with it.
    """
    flat = hidden.reshape(-1, hidden.shape[-1])
    if len(flat) < _FEW_ROWS:
        return torch.nn.functional.linear(hidden, head.weight, head.bias)
    logits = flat.new_empty(len(flat), len(head.weight))
    for first in range(0, len(head.weight), _WORDS):
        words = slice(first, first + _WORDS)
        logits[:, words] = (head.weight[words] @ flat.T).T
    if head.bias is not None:
        logits += head.bias
    return logits.view(*hidden.shape[:-1], -1)


class Uncached(ReferenceEngine):
    """The yardstick but for the logits nobody asks for."""

    def _logits(self, tokens: Sequence[int]) -> Any:
        forget_length(self.model)
        ids = torch.tensor([tokens], device=self.model.device)
        return self.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0]
