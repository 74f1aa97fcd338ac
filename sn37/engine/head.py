"""From hidden states to cross-entropies without ever holding all logits.

The logits of a few positions and a few words at a time are made in float32, whatever the model's dtype,
and folded into a running log-sum-exp. In bfloat16 a logit near 16 is off by up to 0.06; here the error is that of the
sums alone, under 1e-4 against float64.

Knows the heads of the allowed architectures: one linear layer, with or without a bias, its logits capped or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Head"]


class Head:
    """The head of `model`.

    words, positions: how large a piece of logits is made at once; by default 2 MiB on a CPU, where it stays in the
    cache, and 256 MiB on a GPU, in a shape that a matrix product is fast at.
    """

    def __init__(self, model: PreTrainedModel, words: int | None = None, positions: int | None = None) -> None:
        head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self.weight: torch.Tensor = head.weight  # (V, H)
        self.bias: torch.Tensor | None = head.bias  # (V,)
        self.cap: float | None = getattr(model.config, "final_logit_softcapping", None)
        self.words, self.positions = words, positions or (4_096 if self.weight.is_cuda else 1_024)

    def losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The cross-entropy (N,) in float64, in nats, of each target (N,) after its hidden state (N, H)."""
        device = hidden.device
        total = torch.full(targets.shape, -torch.inf, dtype=torch.float64, device=device)
        hidden = _operand(hidden)
        parts, width = _even_pieces(len(hidden), self.positions), self.words or self._words(len(hidden))
        # Used again and again: memory that is new each time costs a fifth of all.
        room = torch.empty(2, max((part.stop - part.start for part in parts), default=0) * width, device=device)
        with _products_of(self.weight.dtype):
            for words in _pieces(len(self.weight), width):
                weight = _operand(self.weight[words])
                for part in parts:
                    shape = (part.stop - part.start, len(weight))
                    logits, spare = (piece[: shape[0] * shape[1]].view(shape) for piece in room)
                    self._logits(hidden[part], weight, words, out=logits)
                    total[part] = torch.logaddexp(total[part], _log_sum_exp(logits, spare).double())
        return total - self._of_targets(hidden, targets)

    def _words(self, positions: int) -> int:
        """How many at once: more where there are few positions."""
        if self.weight.is_cuda:
            return 16_384
        return min(8_192, max(512, 2**19 // max(1, positions)))

    def _logits(self, hidden: torch.Tensor, weight: torch.Tensor, words: slice, out: torch.Tensor) -> None:
        """Those of some words (N, W), in float32."""
        if hidden.dtype == torch.float32:
            torch.mm(hidden, weight.T, out=out)
        else:
            torch.mm(hidden, weight.T, torch.float32, out=out)
        if self.bias is not None:
            out += self.bias[words]
        self._capped(out)

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


@contextmanager
def _products_of(dtype: torch.dtype) -> Iterator[None]:
    """How oneDNN may multiply float32 that was bfloat16: narrowing it again loses nothing.

    A processor that multiplies bfloat16 into float32 sums (AMX) may then do so; without, oneDNN's float32 is faster.
    """
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    if dtype == torch.bfloat16:
        products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


def _log_sum_exp(logits: torch.Tensor, spare: torch.Tensor) -> torch.Tensor:
    """Over the words (N, W) -> (N,); overwrites `spare` (N, W).

    The log-probability of the likeliest word is small, so its difference from that word's logit loses nothing.
    """
    torch.log_softmax(logits, -1, out=spare)
    return logits.amax(-1) - spare.amax(-1)


def _pieces(length: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def _even_pieces(length: int, most: int) -> list[slice]:
    """As few as they can be, of about one size: a small piece would be slow."""
    count = -(-length // most)
    return _pieces(length, -(-length // count)) if count else []
