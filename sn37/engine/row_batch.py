"""The rows that are continued side by side: which of them there is room for, and one more token for each.

Knows nothing of how the model is asked (`sn37.engine.decoding`) or when who enters (`sn37.engine.generation`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sn37.engine.cache import Entering, Kept, RowCache, Stepping
from sn37.engine.decoding import Decoder
from sn37.engine.interface import GenerateRow

__all__ = ["Reply", "RowBatch", "first_highest"]

Tokens = tuple[int, ...]

_MAX_LOGITS = 1 << 24
"""The most logits of one step, rows times words: 64 MiB in float32."""

_MAX_PROMPT_TOKENS = 2048
"""The most tokens of prompts read at once, padding counted; a longer prompt is read alone."""

_COLUMNS = 32
"""The room of a row comes in steps of so many tokens."""


@dataclass(eq=False)
class Reply:
    """A row on its way, and what it has said."""

    row: GenerateRow
    new: list[int] = field(default_factory=list)
    ended: bool = False

    @property
    def tokens(self) -> Tokens:
        return (*self.row.tokens, *self.new)

    @property
    def length(self) -> int:
        return len(self.row.tokens) + len(self.new)

    @property
    def most(self) -> int:
        """How many tokens it may have in the end."""
        return len(self.row.tokens) + self.row.max_new_tokens

    def take(self, token: int) -> None:
        if token in self.row.eos:
            self.ended = True
            return
        self.new.append(token)
        stop = self.row.stop
        self.ended = len(self.new) >= self.row.max_new_tokens or (stop is not None and stop(self.new))


class RowBatch:
    """The rows that run now: `replies[i]` has row i of the cache and of every tensor.

    budget_tokens: for how many tokens there is room in the cache; one row always has room.
    beginnings: the tokens a prompt shares with others, by prompt; each is read once and kept until its last row enters.
    tokens: (rows, columns), what each row holds so far and then its own first token, so that a penalty on them all
    is one on the row's own; lengths: (rows,), how many it holds; penalties: (rows, 1).
    """

    def __init__(self, decoder: Decoder, budget_tokens: int, beginnings: Mapping[Tokens, Tokens]) -> None:
        model: Any = decoder.model
        self.decoder, self.budget_tokens, self.beginnings = decoder, budget_tokens, beginnings
        self.expected = Counter(beginnings.values())
        self.kept: dict[Tokens, Kept] = {}
        self.most_rows: int = max(1, _MAX_LOGITS // model.get_output_embeddings().weight.shape[0])
        self.replies: list[Reply] = []
        self.cache = RowCache(0, 0)
        self.tokens = torch.zeros((0, 0), dtype=torch.long, device=model.device)
        self.lengths = torch.zeros((0,), dtype=torch.long, device=model.device)
        self.penalties = torch.ones((0, 1), device=model.device)

    def room(self, waiting: Sequence[Reply]) -> int:
        """How many of those waiting, the longest first, enter now; 0 where it is better to go on a while."""
        if not waiting:
            return 0
        running, cache = len(self.replies), self.cache
        longest = max(reply.most for reply in (*self.replies, waiting[0]))
        columns = -(-longest // _COLUMNS) * _COLUMNS
        rows = max(1, min(self.budget_tokens // columns, self.most_rows))
        if running and columns <= cache.columns and 4 * rows < 5 * cache.rows:
            rows, columns = cache.rows, cache.columns  # a little more room is not worth moving everybody
        free = min(rows - running, len(waiting))
        if free < 1 or (running and free < min(len(waiting), max(1, rows // 8))):
            return 0
        if running + free > cache.rows or columns > cache.columns:
            self._resize(min(rows, running + len(waiting)), columns)
        return free

    def enter(self, replies: Sequence[Reply]) -> None:
        """Prompts are read, and each row says its first token."""
        prompts: dict[Tokens, list[Reply]] = {}
        for reply in replies:
            prompts.setdefault(reply.tokens, []).append(reply)
        families: dict[Tokens, list[Tokens]] = {}
        for prompt in prompts:
            families.setdefault(self.beginnings.get(prompt, ()), []).append(prompt)
        for beginning in sorted(families):
            for group in _groups(families[beginning], len(beginning), min(_MAX_PROMPT_TOKENS, self.budget_tokens)):
                self._read(beginning, group, prompts)
            self.expected[beginning] -= len(families[beginning])
            if self.expected[beginning] < 1:
                self.kept.pop(beginning, None)

    def step(self) -> None:
        """Each row says one more token."""
        rows = slice(0, len(self.replies))
        positions = self.lengths[rows] - 1
        ids = self.tokens[rows].gather(1, positions[:, None])[:, 0]
        longest = max(reply.length for reply in self.replies)
        self._say(self.decoder.step(ids, positions, Stepping(self.cache, positions, longest)), rows)

    def leave(self) -> list[Reply]:
        """Those that have ended; the last rows take the places of the others among them."""
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

    def _read(self, beginning: Tokens, group: Sequence[Tokens], prompts: Mapping[Tokens, list[Reply]]) -> None:
        """A group of prompts with one beginning, or none, the longest first."""
        device, before, width = self.tokens.device, len(beginning), len(group[0])
        entering = [reply for prompt in group for reply in prompts[prompt]]
        rows = slice(len(self.replies), len(self.replies) + len(entering))
        self.replies += entering
        which = torch.tensor([i for i, prompt in enumerate(group) for _ in prompts[prompt]], device=device)
        ids = torch.tensor([prompt + prompt[-1:] * (width - len(prompt)) for prompt in group], device=device)
        lengths = torch.tensor([len(prompt) for prompt in group], device=device)
        self.tokens[rows] = ids[which, :1]
        self.tokens[rows, :width] = ids[which]
        self.lengths[rows] = lengths[which]
        self.penalties[rows, 0] = self.penalties.new_tensor([reply.row.repetition_penalty for reply in entering])
        view = Entering(self.cache, rows.start, which, self._kept(beginning))
        self._say(self.decoder.read(ids[:, before:], lengths - before - 1, view)[which], rows)

    def _kept(self, beginning: Tokens) -> Kept | None:
        if beginning and beginning not in self.kept:
            self.kept[beginning] = view = Kept()
            ids = torch.tensor([beginning], device=self.tokens.device)
            self.decoder.read(ids, torch.zeros_like(ids[0, :1]), view)
        return self.kept.get(beginning)

    def _say(self, logits: torch.Tensor, rows: slice) -> None:
        """The likeliest token of each row, after the penalty on its own."""
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
            reply.take(token)

    def _resize(self, rows: int, columns: int) -> None:
        running = len(self.replies)
        self.cache.resize(rows, columns, running)
        self.tokens = _resized(self.tokens, (rows, columns), running)
        self.lengths = _resized(self.lengths, (rows,), running)
        self.penalties = _resized(self.penalties, (rows, 1), running)


def first_highest(logits: torch.Tensor, block: int = 512) -> torch.Tensor:
    """argmax over the words (N, V) -> (N,), the first of equals; several times as fast on a CPU.

    The highest of each block of words is found in wide registers, then the word within the first best block.
    """
    rows, words = logits.shape
    whole = words // block
    highest = logits[:, : whole * block].view(rows, whole, block).amax(-1)
    if whole * block < words:
        highest = torch.cat((highest, logits[:, whole * block :].amax(-1, keepdim=True)), dim=1)
    first = highest.argmax(-1, keepdim=True) * block
    candidates = (first + torch.arange(block, device=logits.device)).clamp(max=words - 1)
    best = logits.gather(1, candidates).argmax(-1, keepdim=True)
    return candidates.gather(1, best)[:, 0]


def _resized(old: torch.Tensor, shape: tuple[int, ...], kept: int) -> torch.Tensor:
    """Other room, with the first `kept` rows in it."""
    new = old.new_zeros(shape)
    if kept:
        common = (slice(kept), *(slice(min(sizes)) for sizes in zip(shape[1:], old.shape[1:], strict=True)))
        new[common] = old[common]
    return new


def _groups(prompts: Sequence[Tokens], before: int, max_tokens: int) -> Iterator[list[Tokens]]:
    """Prompts to read together from token `before` on, the longest first."""
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
