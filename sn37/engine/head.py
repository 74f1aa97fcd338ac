"""The two parts of a model: its body gives hidden states, its head cross-entropies, without ever holding all logits.

Protocol, section 6: the loss of a token is the log-sum-exp of its logits less the target's logit, both from the same
float32 logits, the row's maximum subtracted before anything is summed; never below 0. The logits are made here in
chunks of positions and vocabulary, in float32 whatever the model's dtype (in bfloat16 a logit near 16 is off by up to
0.06), and only three numbers a position are kept of each chunk. The error against float64 is that of the matrix
product's sums alone, under 1e-4.

Knows the heads of the allowed architectures: one linear layer, with or without a bias, its logits capped or not.
Does not protect against logits that are infinite or not a number: their losses are not finite either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch

from sn37.engine.architectures import architecture_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Head", "hidden_states", "output_layer"]

Part = tuple[slice, torch.Tensor]
"""A chunk of the vocabulary, and (3, N) for what is kept of it: maximum, log-sum-exp above it, target's logit."""


def hidden_states(model: PreTrainedModel, ids: torch.Tensor, **arguments: object) -> torch.Tensor:
    """What the body of `model` makes of the tokens `ids` (B, T): (B, T, H), which its head takes as they are."""
    return cast("torch.Tensor", model.base_model(input_ids=ids, **arguments).last_hidden_state)


def output_layer(model: PreTrainedModel) -> torch.nn.Linear:
    """The head of `model`: hidden states (..., H) -> logits (..., V), not yet capped."""
    return cast("torch.nn.Linear", model.get_output_embeddings())  # type: ignore[no-untyped-call]


class Head:
    """The head of `model`.

    vocabulary_chunk, position_chunk: how many logits are made at once; by default 1 MiB of them on each thread of a
    CPU, where they stay in the cache, and 256 MiB on a GPU, in a shape that a matrix product is fast at.
    """

    def __init__(
        self, model: PreTrainedModel, vocabulary_chunk: int | None = None, position_chunk: int | None = None
    ) -> None:
        head = output_layer(model)
        self.weight: torch.Tensor = head.weight  # (V, H)
        self.bias: torch.Tensor | None = head.bias  # (V,)
        self.cap = architecture_of(model).logit_cap(model.config)
        self.vocabulary_chunk = vocabulary_chunk
        self.position_chunk = position_chunk or (4_096 if self.weight.is_cuda else 512)

    def losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The cross-entropy (N,) in float64, in nats, of each target (N,) after its hidden state (N, H)."""
        width = self.vocabulary_chunk or self._default_width(len(hidden))
        chunks = _chunks(len(self.weight), width)
        found = torch.empty(len(chunks), 3, len(hidden), device=hidden.device)
        states = hidden if _needs_no_conversion(hidden) else hidden.float()
        with _bfloat16_products_of(self.weight.dtype):
            # A chunk is made whole by the thread that is free for it: nothing depends on how many there are.
            left = iter([*zip(chunks, found, strict=True)])
            if hidden.device.type == "cpu":
                _in_threads(len(chunks), lambda: self._reduce(states, targets, left, width))
            else:
                self._reduce(states, targets, left, width)
        return _losses(*found.unbind(1))

    def _default_width(self, positions: int) -> int:
        """How many words at once: more where there are few positions."""
        if self.weight.is_cuda:
            return 16_384
        return min(2_048, max(512, 2**18 // max(1, positions)))

    def _reduce(self, hidden: torch.Tensor, targets: torch.Tensor, left: Iterator[Part], width: int) -> None:
        """What is kept of each chunk of the vocabulary that is `left`, which has at most `width` words."""
        with torch.inference_mode():  # a thread has a mode of its own
            size = _even_size(len(hidden), self.position_chunk)
            states, wanted = torch.split(hidden, size), torch.split(targets, size)
            # Used again and again: memory that is new each time costs a fifth of all.
            buffer = torch.empty(2 if hidden.is_cuda else 1, size * width, device=hidden.device)
            for words, kept in left:
                weight = self.weight[words] if _needs_no_conversion(self.weight) else self.weight[words].float()
                count = len(weight)
                for part, target, (top, rest, own) in zip(states, wanted, torch.split(kept, size, dim=1), strict=True):
                    logits, spare = (buffer[i, : len(part) * count].view(-1, count) for i in (0, -1))
                    self._logits(part, weight, words, logits)  # (n, W)
                    torch.amax(logits, -1, out=top)
                    own.copy_(_target_logits(logits, target - words.start))
                    rest.copy_(_log_sum_above(logits, spare))  # last: on a CPU it overwrites the logits

    def _logits(self, hidden: torch.Tensor, weight: torch.Tensor, words: slice, out: torch.Tensor) -> None:
        """The final logits (N, W) in float32 of a chunk of the vocabulary, as the model would say them."""
        if weight.dtype == torch.float32:
            torch.mm(hidden, weight.T, out=out)
        else:
            torch.mm(hidden, weight.T, torch.float32, out=out)
        if self.bias is not None:
            out += self.bias[words]
        if self.cap is not None:
            out.div_(self.cap).tanh_().mul_(self.cap)


def _losses(top: torch.Tensor, rest: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """The losses (N,) in float64 from what was kept of each chunk (C, N).

    top: the largest logit of the chunk; rest: the log-sum-exp of the chunk's logits less that one, 0 or more;
    own: the target's logit in the one chunk that has it, -inf in the others.
    """
    # Differences of float32 numbers are exact in float64 where they matter: a constant on all logits drops out here.
    maximum = top.amax(0).double()  # (N,), over the whole vocabulary
    above_target = maximum - own.amax(0).double()  # 0 or more: both are among the same logits
    # log sum_c exp(top_c + rest_c - maximum): 0 or more, for the chunk that has the maximum gives at least exp(0).
    log_sum = torch.logsumexp(top.double() - maximum + rest.double(), 0)
    return (log_sum + above_target).clamp_(min=0.0) + 0.0  # what rounding takes below 0 is 0, and never -0


def _target_logits(logits: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Of logits (N, W) those at places (N,), -inf where a place is in another chunk: the very numbers summed."""
    inside = (places >= 0) & (places < logits.shape[1])
    found = logits.gather(1, places.clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
    return found.masked_fill_(~inside, -torch.inf)


def _log_sum_above(logits: torch.Tensor, spare: torch.Tensor) -> torch.Tensor:
    """log sum exp(logits - their maximum), (N, W) -> (N,); overwrites `spare` (N, W), on a CPU the logits themselves.

    That is minus the log-probability of the likeliest word within the chunk, from one fused pass.
    """
    torch.log_softmax(logits, -1, out=spare)
    # Not a number also where all logits are -inf: nothing is added for them. Other causes show in the maximum.
    return spare.amax(-1).neg_().nan_to_num_(nan=0.0)


def _needs_no_conversion(values: torch.Tensor) -> bool:
    """Whether a product of such matrices has sums in float32; else they are made float32, which loses nothing."""
    return values.is_cuda or values.dtype == torch.float32


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
def _bfloat16_products_of(dtype: torch.dtype) -> Iterator[None]:
    """How oneDNN may multiply float32 that was bfloat16: narrowing it again loses nothing.

    A processor that multiplies bfloat16 into float32 sums (AMX) may then do so; without, oneDNN's float32 is faster.
    """
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    if dtype == torch.bfloat16:
        products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


def _chunks(length: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def _even_size(length: int, most: int) -> int:
    """How many at a time, `most` at the most, so that no chunk is much smaller than the others: it would be slow."""
    return max(1, -(-length // max(1, -(-length // most))))
