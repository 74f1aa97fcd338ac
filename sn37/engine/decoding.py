"""One forward pass over a KV cache of many rows: prefill, the logits after prompts; decode, after one more token each.

Knows nothing of which rows run when. What differs between architectures is said in `sn37.engine.architectures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from sn37.engine.architectures import architecture_of
from sn37.engine.cache import DecodeView, PrefillView, PrefixCache
from sn37.engine.head import hidden_states, output_layer
from sn37.engine.masks import Mask, attention_mask, told_positions
from sn37.engine.reference import ReferenceEngine
from sn37.engine.rope import reset_rope

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Decoder", "LastLogits", "chunked_linear"]

_FEW_ROWS = 8
_VOCABULARY_CHUNK = 4_096


class Decoder:
    """`model`, asked for the logits of a row's last token only."""

    def __init__(self, model: PreTrainedModel) -> None:
        architecture = architecture_of(model)
        self.model = model
        self.alibi = architecture.uses_alibi(model.config)
        self.cap = architecture.logit_cap(model.config)

    def prefill(self, ids: torch.Tensor, last: torch.Tensor, view: PrefillView | PrefixCache) -> torch.Tensor:
        """The logits (N, V) in float32 after token `last[i]` of each row of `ids` (N, T), padded at the end."""
        # The model's own causal mask is right: padding is behind, and the view says what is before.
        positions = torch.arange(view.before, view.before + ids.shape[1], device=ids.device)[None]
        states = self._states(ids, positions, None, view)
        return self._logits(states[torch.arange(len(ids), device=ids.device), last])

    def decode(self, ids: torch.Tensor, positions: torch.Tensor, view: DecodeView) -> torch.Tensor:
        """The logits (N, V) in float32 after the tokens `ids` (N,) at `positions` (N,)."""
        states = self._states(ids[:, None], positions[:, None], self._mask(positions, view.columns), view)
        return self._logits(states[:, 0])

    def _states(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        mask: Mask | None,
        view: DecodeView | PrefillView | PrefixCache,
    ) -> torch.Tensor:
        """The hidden states (N, T, H) of the tokens (N, T); their keys and values go into the cache."""
        with told_positions(self.model, positions) as arguments:
            return hidden_states(
                self.model, ids, attention_mask=mask, past_key_values=view, use_cache=True, **arguments
            )

    def _mask(self, positions: torch.Tensor, columns: int) -> Mask:
        """Which of the cache's columns each row's token sees: its own and those before."""
        distance = positions[:, None] - torch.arange(columns, device=positions.device)  # (N, K)
        if self.alibi:
            return (distance >= 0).long()  # the bias by distance is made of it
        return attention_mask(self.model, (distance >= 0)[:, None], distance[:, None])

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The final logits (N, V) of hidden states (N, H), as the model itself works them out; then in float32."""
        head = output_layer(self.model)
        wide = hidden.device.type == "cpu" and head.weight.dtype == torch.float32
        logits = chunked_linear(head, hidden) if wide else head(hidden)
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return cast("torch.Tensor", logits.float())


def chunked_linear(head: nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    """What the linear layer `head` gives for hidden states (N, H): logits (N, V).

    A processor multiplies a wide matrix with the hidden states of some rows up to twice as fast as those with it.
    """
    if len(hidden) < _FEW_ROWS:
        return nn.functional.linear(hidden, head.weight, head.bias)
    logits = hidden.new_empty(len(hidden), len(head.weight))
    for first in range(0, len(head.weight), _VOCABULARY_CHUNK):
        words = slice(first, first + _VOCABULARY_CHUNK)
        logits[:, words] = (head.weight[words] @ hidden.T).T
    if head.bias is not None:
        logits += head.bias
    return logits


class LastLogits(ReferenceEngine):
    """The reference, but for the logits nobody asks for."""

    def _logits(self, tokens: Sequence[int]) -> torch.Tensor:
        reset_rope(self.model)
        ids = torch.tensor([tokens], device=self.model.device)
        return cast("torch.Tensor", self.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0])
