"""From hidden states to cross-entropies without ever holding all logits.

The logits of a few positions and a few words at a time are made in float32, whatever the model's dtype,
and folded into a running log-sum-exp. In bfloat16 a logit near 16 is off by up to 0.06; here the error is that of the
sums alone, under 1e-4 against float64.

Knows the heads of the allowed architectures: one linear layer, with or without a bias, its logits capped or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Head"]


class Head:
    """The head of `model`.

    words, positions: how large a piece of logits is made at once, by default 4 MiB on a CPU, where it stays in the
    cache, and 256 MiB on a GPU.
    """

    def __init__(self, model: PreTrainedModel, words: int | None = None, positions: int | None = None) -> None:
        head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self.weight: torch.Tensor = head.weight  # (V, H)
        self.bias: torch.Tensor | None = head.bias  # (V,)
        self.cap: float | None = getattr(model.config, "final_logit_softcapping", None)
        on_gpu = self.weight.is_cuda
        self.words = words or (16_384 if on_gpu else 2_048)
        self.positions = positions or (4_096 if on_gpu else 512)

    def losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The cross-entropy (N,) in float64, in nats, of each target (N,) after its hidden state (N, H)."""
        total = torch.full(targets.shape, -torch.inf, dtype=torch.float64, device=hidden.device)
        hidden = _operand(hidden)
        for words in _pieces(len(self.weight), self.words):
            weight = _operand(self.weight[words])
            for rows in _pieces(len(hidden), self.positions):
                logits = self._logits(hidden[rows], weight, words)
                total[rows] = torch.logaddexp(total[rows], _log_sum_exp(logits).double())
        return total - self._of_targets(hidden, targets)

    def _logits(self, hidden: torch.Tensor, weight: torch.Tensor, words: slice) -> torch.Tensor:
        """Those of some words (N, W), in float32."""
        if hidden.dtype == torch.float32:
            logits = hidden @ weight.T
        else:
            logits = torch.mm(hidden, weight.T, out_dtype=torch.float32)
        if self.bias is not None:
            logits += self.bias[words].float()
        return self._capped(logits)

    def _of_targets(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The logit of each target (N,), in float64."""
        found = []
        for rows in _pieces(len(hidden), self.positions):
            logits = (hidden[rows].float() * self.weight[targets[rows]].float()).sum(-1, dtype=torch.float64)
            found.append(logits if self.bias is None else logits + self.bias[targets[rows]].double())
        return self._capped(torch.cat(found))

    def _capped(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self.cap is None else logits.div_(self.cap).tanh_().mul_(self.cap)


def _operand(values: torch.Tensor) -> torch.Tensor:
    """What is multiplied: float32; a GPU takes the values as they are and gives float32 sums of their products.

    A CPU has no such product of bfloat16 with float32 sums (its own rounds each sum to bfloat16), so there the head
    runs at the speed of float32.
    """
    return values if values.is_cuda else values.float()


def _log_sum_exp(logits: torch.Tensor) -> torch.Tensor:
    """Over the words (N, W) -> (N,); overwrites the logits."""
    highest = logits.amax(-1, keepdim=True)
    return logits.sub_(highest).exp_().sum(-1).log_() + highest[:, 0]


def _pieces(length: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, length)) for first in range(0, length, size))
