"""Greedy continuations of many rows at once, equal to one row at a time without a cache.

Rows run side by side over one cache of keys and values: a row leaves as soon as it has ended, and the next
takes its place. What a row says depends on the row alone, not on its neighbours, their order or the budget. That
holds to the token in float32; in bfloat16 the shape of a batch moves the last digits of its logits. So the plan is
canonical: which rows run together follows from the rows, the budget and the replies, never from time or the
free memory, and machines of one kind reply alike. Where memory runs out, `Budget` says that the plan was left.

Knows nothing of samples or texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from sn37.engine.cache import Entering, RowCache, Stepping
from sn37.engine.decoding import Decoder, Uncached, forget_length, steady_length
from sn37.engine.interface import GenerateRow, Progress
from sn37.engine.memory import Budget, ran_out

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["generate"]

_MAX_LOGITS = 1 << 24
"""The most logits of one step, rows times words: 64 MiB in float32."""

_MAX_PROMPT_TOKENS = 2048
"""The most tokens of prompts read at once, padding counted; a longer prompt is read alone."""

_COLUMNS = 32
"""The room of a row comes in steps of so many tokens."""


@dataclass(eq=False)
class _Reply:
    """A row on its way, and what it has said."""

    row: GenerateRow
    new: list[int] = field(default_factory=list)
    ended: bool = False

    @property
    def tokens(self) -> tuple[int, ...]:
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


def generate(
    model: PreTrainedModel,
    rows: Sequence[GenerateRow],
    *,
    sequence_length: int,
    budget: Budget,
    progress: Progress | None = None,
) -> list[list[int]]:
    """For each row its new tokens, without the one that ends it; a tie goes to the lower token id.

    budget: for how many tokens, prompts and replies together, there is room at once (a single row always has it).
    It is halved where memory runs out; the rows under way then go on from what they have said.
    Raises ValueError for a row without tokens, or with more than fit in `sequence_length`.
    """
    for row in rows:
        limit = sequence_length - row.max_new_tokens
        if not 0 < len(row.tokens) <= limit:
            raise ValueError(f"a row has {len(row.tokens)} tokens; expected 1 to {limit}")
    replies = [_Reply(row, ended=row.max_new_tokens < 1) for row in rows]
    with torch.inference_mode():
        _run_all(model, [reply for reply in replies if not reply.ended], budget, progress or _silent)
    if progress is not None:
        for reply in replies:
            if reply.row.max_new_tokens < 1:
                progress(1, len(reply.row.tokens))
    return [reply.new for reply in replies]


def _silent(rows: int, tokens: int) -> None:
    pass


def _run_all(model: PreTrainedModel, replies: list[_Reply], budget: Budget, progress: Progress) -> None:
    limit = steady_length(model)
    if limit is not None:
        forget_length(model)
        for reply in [reply for reply in replies if reply.most > limit]:
            reply.new.extend(Uncached(model, reply.most).generate([reply.row], progress)[0])
        replies = [reply for reply in replies if reply.most <= limit]
        forget_length(model)
    # The longest first: what is left at the end is short, and neighbours are of a length.
    replies = sorted(replies, key=lambda reply: (-reply.most, reply.row.tokens))
    while replies:
        try:
            with Decoder(model) as decoder:
                _run(decoder, replies, budget.tokens, progress)
        except Exception as error:
            if not ran_out(error) or budget.tokens <= max(reply.most for reply in replies if not reply.ended):
                raise
        else:
            return
        # Out of the except block: the error's traceback holds on to everything the rows had in memory.
        budget.halve()
        replies = [reply for reply in replies if not reply.ended]


def _run(decoder: Decoder, replies: Sequence[_Reply], budget_tokens: int, progress: Progress) -> None:
    """All replies to their end."""
    batch = _Batch(decoder, budget_tokens)
    waiting = list(replies)
    while waiting or batch.replies:
        entering = batch.room(waiting)
        if entering:
            batch.enter(waiting[:entering])
            del waiting[:entering]
        else:
            batch.step()
        ended = batch.leave()
        if ended:
            progress(len(ended), sum(reply.length for reply in ended))


class _Batch:
    """The rows that run now: `replies[i]` has row i of the cache and of every tensor.

    tokens: (rows, columns), what each row holds so far and then its own first token, so that a penalty on them all
    is one on the row's own; lengths: (rows,), how many it holds; penalties: (rows, 1).
    """

    def __init__(self, decoder: Decoder, budget_tokens: int) -> None:
        model: Any = decoder.model
        self.decoder, self.budget_tokens = decoder, budget_tokens
        self.most_rows: int = max(1, _MAX_LOGITS // model.get_output_embeddings().weight.shape[0])
        self.replies: list[_Reply] = []
        self.cache = RowCache(0, 0)
        self.tokens = torch.zeros((0, 0), dtype=torch.long, device=model.device)
        self.lengths = torch.zeros((0,), dtype=torch.long, device=model.device)
        self.penalties = torch.ones((0, 1), device=model.device)

    def room(self, waiting: Sequence[_Reply]) -> int:
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

    def enter(self, replies: Sequence[_Reply]) -> None:
        """Prompts are read, and each row says its first token."""
        for prompts in _groups(replies, min(_MAX_PROMPT_TOKENS, self.budget_tokens)):
            first, width = len(self.replies), len(prompts[0][0].tokens)
            which = [i for i, prompt in enumerate(prompts) for _ in prompt]
            self.replies.extend(reply for prompt in prompts for reply in prompt)
            ids = torch.tensor([_padded(prompt[0].tokens, width) for prompt in prompts], device=self.tokens.device)
            last = torch.tensor([prompt[0].length - 1 for prompt in prompts], device=self.tokens.device)
            own = torch.tensor(which, device=self.tokens.device)
            rows = slice(first, len(self.replies))
            self.tokens[rows] = ids[own, :1]
            self.tokens[rows, :width] = ids[own]
            self.lengths[rows] = last[own] + 1
            self.penalties[rows, 0] = self.penalties.new_tensor(
                [reply.row.repetition_penalty for reply in self.replies[first:]]
            )
            logits = self.decoder.read(ids, last, Entering(self.cache, first, own))
            self._say(logits[own], rows)

    def step(self) -> None:
        """Each row says one more token."""
        rows = slice(0, len(self.replies))
        positions = self.lengths[rows] - 1
        ids = self.tokens[rows].gather(1, positions[:, None])[:, 0]
        longest = max(reply.length for reply in self.replies)
        self._say(self.decoder.step(ids, positions, Stepping(self.cache, positions, longest)), rows)

    def leave(self) -> list[_Reply]:
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

    def _say(self, logits: torch.Tensor, rows: slice) -> None:
        """The likeliest token of each row, after the penalty on its own."""
        replies = self.replies[rows]
        if any(reply.row.repetition_penalty != 1.0 for reply in replies):
            # A token may be there twice: both get the same value.
            own = self.tokens[rows, : max(reply.length for reply in replies)]
            scores, penalties = logits.gather(1, own), self.penalties[rows]
            logits.scatter_(1, own, torch.where(scores > 0, scores / penalties, scores * penalties))
        chosen = logits.argmax(dim=-1)
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


def _resized(old: torch.Tensor, shape: tuple[int, ...], kept: int) -> torch.Tensor:
    """Other room, with the first `kept` rows in it."""
    new = old.new_zeros(shape)
    if kept:
        common = (slice(kept), *(slice(min(sizes)) for sizes in zip(shape[1:], old.shape[1:], strict=True)))
        new[common] = old[common]
    return new


def _groups(replies: Sequence[_Reply], max_tokens: int) -> Iterator[list[list[_Reply]]]:
    """Prompts to read together, the longest first; a prompt is the list of the replies that have it."""
    prompts: dict[tuple[int, ...], list[_Reply]] = {}
    for reply in replies:
        prompts.setdefault(reply.tokens, []).append(reply)
    group: list[list[_Reply]] = []
    width = 0
    for tokens in sorted(prompts, key=lambda tokens: (-len(tokens), tokens)):
        # Padding costs as much as prompts do: at most an eighth, but for a few tokens.
        if group and ((len(group) + 1) * width > max_tokens or width - len(tokens) > max(16, width // 8)):
            yield group
            group = []
        width = len(tokens) if not group else width
        group.append(prompts[tokens])
    yield group


def _padded(tokens: tuple[int, ...], width: int) -> tuple[int, ...]:
    return tokens + tokens[-1:] * (width - len(tokens))
