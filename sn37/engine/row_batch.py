"""The rows that are continued side by side: how many the KV cache has space for, and one more token for each.

Knows nothing of forward passes (`sn37.engine.decoding`) or of the order of rows (`sn37.engine.generation`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from sn37.engine.cache import DecodeView, KVCache, PrefillView, PrefixCache
from sn37.engine.decoding import Decoder
from sn37.engine.head import output_layer
from sn37.engine.interface import GenerateRow

__all__ = ["Reply", "RowBatch", "first_highest"]

Tokens = tuple[int, ...]

_MAX_LOGITS = 1 << 24
"""The most logits of one step, rows times vocabulary: 64 MiB in float32."""

_MAX_PROMPT_TOKENS = 2048
"""The most tokens of prompts in one prefill, padding counted; a longer prompt is computed alone."""

_COLUMN_STEP = 32
"""The space of a row comes in steps of so many tokens."""


@dataclass(eq=False)
class Reply:
    """A row on its way, and its new tokens so far."""

    row: GenerateRow
    """What is continued."""
    new: list[int] = field(default_factory=list)
    """The tokens of the reply."""
    ended: bool = False
    """Whether there will be no more."""

    @property
    def tokens(self) -> Tokens:
        """Prompt and reply."""
        return (*self.row.tokens, *self.new)

    @property
    def length(self) -> int:
        """The tokens of prompt and reply."""
        return len(self.row.tokens) + len(self.new)

    @property
    def max_length(self) -> int:
        """How many tokens prompt and reply may have in the end."""
        return len(self.row.tokens) + self.row.max_new_tokens

    def append(self, token: int) -> None:
        """One more token, unless it ends the row."""
        if token in self.row.eos:
            self.ended = True
            return
        self.new.append(token)
        stop = self.row.stop
        self.ended = len(self.new) >= self.row.max_new_tokens or (stop is not None and stop(self.new))


class RowBatch:
    """The rows that run now: `replies[i]` has row i of the cache and of every tensor.

    budget_tokens: for how many tokens there is space in the cache; one row always has space.
    prefixes: what a prompt shares with others, by prompt; each is computed once and kept until its last row enters.
    """

    def __init__(self, decoder: Decoder, budget_tokens: int, prefixes: Mapping[Tokens, Tokens]) -> None:
        model = decoder.model
        self.decoder, self.budget_tokens, self.prefixes = decoder, budget_tokens, prefixes
        self.expected = Counter(prefixes.values())
        """How many prompts are still to come, by prefix."""
        self.prefix_caches: dict[Tokens, PrefixCache] = {}
        self.max_rows = max(1, _MAX_LOGITS // len(output_layer(model).weight))
        self.replies: list[Reply] = []
        self.cache = KVCache(0, 0)
        self.tokens = torch.zeros((0, 0), dtype=torch.long, device=model.device)
        """(rows, columns): what each row holds so far; behind it the row's own first token, so that a penalty on all
        of them is one on the row's own."""
        self.lengths = torch.zeros((0,), dtype=torch.long, device=model.device)
        """(rows,): how many tokens each row holds."""
        self.penalties = torch.ones((0, 1), device=model.device)
        """(rows, 1): the repetition penalties."""

    def admit(self, waiting: Sequence[Reply]) -> int:
        """How many of those waiting, the longest first, enter now, with space made for them.

        0 where it is better to decode for a while: a prefill for few rows is slow.
        """
        if not waiting:
            return 0
        running, cache = len(self.replies), self.cache
        # Every row has columns for the longest there is, in whole steps; the budget says how many rows that makes.
        longest = max(reply.max_length for reply in (*self.replies, waiting[0]))
        columns = -(-longest // _COLUMN_STEP) * _COLUMN_STEP
        rows = max(1, min(self.budget_tokens // columns, self.max_rows))
        if running and columns <= cache.columns and 4 * rows < 5 * cache.rows:
            rows, columns = cache.rows, cache.columns  # a little more space is not worth moving everybody
        free = min(rows - running, len(waiting))
        if free < 1 or (running and free < min(len(waiting), max(1, rows // 8))):
            return 0
        if running + free > cache.rows or columns > cache.columns:
            self._resize(min(rows, running + len(waiting)), columns)
        return free

    def prefill(self, replies: Sequence[Reply]) -> None:
        """Compute prompts, each once, and append each row's first token."""
        prompts: dict[Tokens, list[Reply]] = {}
        for reply in replies:
            prompts.setdefault(reply.tokens, []).append(reply)
        by_prefix: dict[Tokens, list[Tokens]] = {}
        for prompt in prompts:
            by_prefix.setdefault(self.prefixes.get(prompt, ()), []).append(prompt)
        for prefix in sorted(by_prefix):
            for group in _groups(by_prefix[prefix], len(prefix), min(_MAX_PROMPT_TOKENS, self.budget_tokens)):
                self._prefill_group(prefix, group, prompts)
            self.expected[prefix] -= len(by_prefix[prefix])
            if self.expected[prefix] < 1:
                self.prefix_caches.pop(prefix, None)

    def decode(self) -> None:
        """Append one more token to each row."""
        rows = slice(0, len(self.replies))
        positions = self.lengths[rows] - 1  # the last token of each row is not in the cache yet
        ids = self.tokens[rows].gather(1, positions[:, None])[:, 0]
        longest = max(reply.length for reply in self.replies)
        self._append(self.decoder.decode(ids, positions, DecodeView(self.cache, positions, longest)), rows)

    def remove_ended(self) -> list[Reply]:
        """The rows that have ended; the last of the others take their places."""
        ended = [reply for reply in self.replies if reply.ended]
        if not ended:
            return []
        count = len(self.replies) - len(ended)
        targets = [i for i in range(count) if self.replies[i].ended]
        sources = [i for i in range(count, len(self.replies)) if not self.replies[i].ended]
        for source, target in zip(sources, targets, strict=True):
            self.replies[target] = self.replies[source]
        del self.replies[count:]
        if sources:
            to, of = (torch.tensor(places, device=self.tokens.device) for places in (targets, sources))
            self.cache.move(of, to)
            for held in (self.tokens, self.lengths, self.penalties):
                held[to] = held[of]
        return ended

    def _prefill_group(self, prefix: Tokens, group: Sequence[Tokens], prompts: Mapping[Tokens, list[Reply]]) -> None:
        """One forward pass over prompts with one prefix, or none, the longest first."""
        device, before, width = self.tokens.device, len(prefix), len(group[0])
        entering = [reply for prompt in group for reply in prompts[prompt]]
        rows = slice(len(self.replies), len(self.replies) + len(entering))
        self.replies += entering
        # Prompt which[i] of the group is that of the i-th row entering: equal prompts are computed once.
        which = torch.tensor([i for i, prompt in enumerate(group) for _ in prompts[prompt]], device=device)
        ids = torch.tensor([prompt + prompt[-1:] * (width - len(prompt)) for prompt in group], device=device)
        lengths = torch.tensor([len(prompt) for prompt in group], device=device)
        self.tokens[rows] = ids[which, :1]
        self.tokens[rows, :width] = ids[which]
        self.lengths[rows] = lengths[which]
        self.penalties[rows, 0] = self.penalties.new_tensor([reply.row.repetition_penalty for reply in entering])
        view = PrefillView(self.cache, rows.start, which, self._prefix_cache(prefix))
        logits = self.decoder.prefill(ids[:, before:], lengths - before - 1, view)  # (prompts, V)
        self._append(logits[which], rows)

    def _prefix_cache(self, prefix: Tokens) -> PrefixCache | None:
        """The keys and values of a prefix, computed when it is first asked for; None where it has no token."""
        if prefix and prefix not in self.prefix_caches:
            self.prefix_caches[prefix] = view = PrefixCache()
            ids = torch.tensor([prefix], device=self.tokens.device)
            self.decoder.prefill(ids, torch.zeros_like(ids[0, :1]), view)
        return self.prefix_caches.get(prefix)

    def _append(self, logits: torch.Tensor, rows: slice) -> None:
        """The likeliest token of each row, after the penalty on its own; logits (rows, V) are overwritten."""
        replies = self.replies[rows]
        if any(reply.row.repetition_penalty != 1.0 for reply in replies):
            # A token may be there twice: both get the same value.
            own = self.tokens[rows, : max(reply.length for reply in replies)]
            scores, penalties = logits.gather(1, own), self.penalties[rows]
            logits.scatter_(1, own, torch.where(scores > 0, scores / penalties, scores * penalties))
        chosen = first_highest(logits)
        self.tokens[rows].scatter_(1, self.lengths[rows, None], chosen[:, None])
        self.lengths[rows] += 1
        for reply, token in zip(replies, chosen.tolist(), strict=True):
            reply.append(token)

    def _resize(self, rows: int, columns: int) -> None:
        running = len(self.replies)
        self.cache.resize(rows, columns, running)
        self.tokens = _resized(self.tokens, (rows, columns), running)
        self.lengths = _resized(self.lengths, (rows,), running)
        self.penalties = _resized(self.penalties, (rows, 1), running)


def first_highest(logits: torch.Tensor, block: int = 512) -> torch.Tensor:
    """argmax over the vocabulary (N, V) -> (N,), the first of equals; several times as fast on a CPU.

    The highest of each block of the vocabulary is found in wide registers, then the word within the first best block.
    """
    rows, vocabulary = logits.shape
    whole = vocabulary // block
    # (N, blocks): the highest of each, the last block being what is left.
    highest = logits[:, : whole * block].view(rows, whole, block).amax(-1)
    if whole * block < vocabulary:
        highest = torch.cat((highest, logits[:, whole * block :].amax(-1, keepdim=True)), dim=1)
    # (N, block): the words of the first best block; behind the vocabulary its last word again, which is never first.
    first = highest.argmax(-1, keepdim=True) * block
    candidates = (first + torch.arange(block, device=logits.device)).clamp(max=vocabulary - 1)
    best = logits.gather(1, candidates).argmax(-1, keepdim=True)
    return candidates.gather(1, best)[:, 0]


def _resized(old: torch.Tensor, shape: tuple[int, ...], kept: int) -> torch.Tensor:
    """Zeros of another shape, with the first `kept` rows in them."""
    new = old.new_zeros(shape)
    if kept:
        common = (slice(kept), *(slice(min(sizes)) for sizes in zip(shape[1:], old.shape[1:], strict=True)))
        new[common] = old[common]
    return new


def _groups(prompts: Sequence[Tokens], before: int, max_tokens: int) -> Iterator[list[Tokens]]:
    """Prompts to compute together from token `before` on, the longest first."""
    group: list[Tokens] = []
    width = 0
    for prompt in sorted(prompts, key=lambda prompt: (-len(prompt), prompt)):
        length = len(prompt) - before
        # Padding costs as much as prompts do: at most an eighth, but for a few tokens.
        if group and ((len(group) + 1) * width > max_tokens or width - length > max(16, width // 8)):
            yield group
            group = []
        width = width if group else length
        group.append(prompt)
    yield group
