"""From hidden states to cross-entropies without ever holding all logits.

The logits of a few positions and a few words at a time are made in float32, whatever the model's dtype,
and folded into a running log-sum-exp. In bfloat16 a logit near 16 is off by up to 0.06; here the error is that of the
sums alone, under 1e-4 against float64.

Knows the heads of the allowed architectures: one linear layer, with or without a bias, its logits capped or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sn37.engine import bfloat16

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Head"]


class Head:
    """The head of `model`.

    words, positions: how large a piece of logits is made at once; by default 1 MiB on each thread of a CPU, where it
    stays in the cache, and 256 MiB on a GPU, in a shape that a matrix product is fast at.
    """

    def __init__(self, model: PreTrainedModel, words: int | None = None, positions: int | None = None) -> None:
        head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self.weight: torch.Tensor = head.weight  # (V, H)
        self.bias: torch.Tensor | None = head.bias  # (V,)
        self.cap: float | None = getattr(model.config, "final_logit_softcapping", None)
        self.words, self.positions = words, positions or (4_096 if self.weight.is_cuda else 512)

    def losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The cross-entropy (N,) in float64, in nats, of each target (N,) after its hidden state (N, H)."""
        total = torch.full(targets.shape, -torch.inf, dtype=torch.float64, device=hidden.device)
        width = self.words or self._words(len(hidden))
        pieces = _pieces(len(self.weight), width)
        found = torch.empty(len(pieces), len(hidden), device=hidden.device)
        product = _product_for(self.weight)
        states = product.hidden(hidden)
        with _products_of(self.weight.dtype):
            # A piece is made whole by the thread that is free for it: nothing depends on how many there are.
            left = iter([*zip(pieces, found, strict=True)])
            if hidden.device.type == "cpu":
                _in_threads(len(pieces), lambda: self._fold(product, states, left, width))
            else:
                self._fold(product, states, left, width)
        for log_sum_exp in found:
            total = torch.logaddexp(total, log_sum_exp.double())
        return total - self._of_targets(hidden, targets)

    def _words(self, positions: int) -> int:
        """How many at once: more where there are few positions."""
        if self.weight.is_cuda:
            return 16_384
        return min(2_048, max(512, 2**18 // max(1, positions)))

    def _fold(
        self, product: _Product, hidden: torch.Tensor, left: Iterator[tuple[slice, torch.Tensor]], width: int
    ) -> None:
        """For each piece of the words that is left: the log-sum-exp over it, of all positions, into its row (N,).

        width: the most words a piece has.
        """
        with torch.inference_mode():  # a thread has a mode of its own
            parts = torch.split(hidden, _even_size(len(hidden), self.positions))
            # Used again and again: memory that is new each time costs a fifth of all.
            room = torch.empty(2 if hidden.is_cuda else 1, len(parts[0]) * width, device=hidden.device)
            for words, row in left:
                weight, bias = product.weight(self.weight[words]), None if self.bias is None else self.bias[words]
                count = words.stop - words.start
                for part, found in zip(parts, torch.split(row, len(parts[0])), strict=True):
                    logits, spare = (room[i, : len(part) * count].view(-1, count) for i in (0, -1))
                    product.multiply(part, weight, logits)
                    if bias is not None:
                        logits += bias
                    found.copy_(_log_sum_exp(self._capped(logits), spare))

    def _of_targets(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The logit of each target (N,), in float64."""
        found = []
        for rows in _pieces(len(hidden), self.positions):
            logits = (hidden[rows].float() * self.weight[targets[rows]].float()).sum(-1, dtype=torch.float64)
            found.append(logits if self.bias is None else logits + self.bias[targets[rows]].double())
        return self._capped(torch.cat(found))

    def _capped(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self.cap is None else logits.div_(self.cap).tanh_().mul_(self.cap)


class _Product(NamedTuple):
    """A product of hidden states (N, H) with a weight (W, H) into logits (N, W) in float32."""

    hidden: Callable[[torch.Tensor], torch.Tensor]
    """What it takes for the hidden states."""
    weight: Callable[[torch.Tensor], torch.Tensor]
    """What it takes for the weight."""
    multiply: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], object]
    """Of the two and the logits it writes."""


def _product_for(weight: torch.Tensor) -> _Product:
    """The fastest product that this device has for such a weight. No sum is ever rounded to less than float32."""
    if weight.is_cuda and weight.dtype != torch.float32:
        return _Product(_as_it_is, _as_it_is, lambda a, b, out: torch.mm(a, b.T, torch.float32, out=out))
    if bfloat16.is_available(weight):
        return _Product(torch.Tensor.contiguous, bfloat16.laid_out, bfloat16.product)
    return _Product(torch.Tensor.float, torch.Tensor.float, lambda a, b, out: torch.mm(a, b.T, out=out))


def _as_it_is(values: torch.Tensor) -> torch.Tensor:
    return values


def _in_threads(most: int, work: Callable[[], None]) -> None:
    """Calls work on as many threads as PyTorch may use, `most` at the most; its operations use no others."""
    before = torch.get_num_threads()
    count = min(before, most)
    if before == 1:
        return work()

    def alone() -> None:
        torch.set_num_threads(1)  # of this thread; but threads that begin later would begin so
        work()

    try:
        with ThreadPoolExecutor(count) as pool:
            for done in [pool.submit(alone) for _ in range(count)]:
                done.result()
    finally:
        torch.set_num_threads(before)


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
    """Over the words (N, W) -> (N,); overwrites `spare` (N, W), on a CPU the logits themselves.

    The log-probability of the likeliest word is small, so its difference from that word's logit loses nothing.
    """
    likeliest = logits.amax(-1)
    torch.log_softmax(logits, -1, out=spare)
    return likeliest - spare.amax(-1)


def _pieces(length: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def _even_size(length: int, most: int) -> int:
    """How many at a time, `most` at the most, so that no piece is much smaller than the others: it would be slow."""
    return max(1, -(-length // max(1, -(-length // most))))
