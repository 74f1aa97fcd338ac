"""Greedy continuations of many rows at once, equal to one row at a time without a cache.

Rows run side by side over one KV cache (continuous batching): a row leaves as soon as it has ended, and the next takes
its place. A reply depends on its row alone, not on its neighbors, their order or the budget. That holds to the token
in float32; in bfloat16 the shape of a batch moves the last digits of its logits. So the plan is canonical: which rows
run together follows from the rows, the budget and the replies, never from time or the free memory, and machines of one
kind reply alike. Where memory runs out, `Budget` says that the plan was left.

Knows nothing of samples or texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sn37.engine.decoding import Decoder, LastLogits
from sn37.engine.interface import GenerateRow, Progress
from sn37.engine.memory import Budget, is_out_of_memory
from sn37.engine.prefixes import shared_prefixes
from sn37.engine.rope import reset_rope, rope_length_limit
from sn37.engine.row_batch import Reply, RowBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["generate"]

_PREFIX_SHARE = 0.25
"""The most tokens of shared prefixes, as a share of the budget."""


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
    It is halved where memory runs out; the rows under way then go on from the tokens they have.
    Raises ValueError for a row without tokens, or with more than fit in `sequence_length`.
    """
    for row in rows:
        limit = sequence_length - row.max_new_tokens
        if not 0 < len(row.tokens) <= limit:
            raise ValueError(f"a row has {len(row.tokens)} tokens; expected 1 to {limit}")
    replies = [Reply(row, ended=row.max_new_tokens < 1) for row in rows]
    with torch.inference_mode():
        _run_all(model, [reply for reply in replies if not reply.ended], budget, progress or _silent)
    if progress is not None:
        for reply in replies:
            if reply.row.max_new_tokens < 1:
                progress(1, len(reply.row.tokens))
    return [reply.new for reply in replies]


def _silent(rows: int, tokens: int) -> None:
    pass


def _run_all(model: PreTrainedModel, replies: list[Reply], budget: Budget, progress: Progress) -> None:
    """All replies to their end, with as many tries as the budget has to be halved."""
    # A row that grows beyond the limit turns its own cached positions: it is computed anew for each token, alone.
    limit = rope_length_limit(model)
    if limit is not None:
        reset_rope(model)
        for reply in [reply for reply in replies if reply.max_length > limit]:
            reply.new.extend(LastLogits(model, reply.max_length).generate([reply.row], progress)[0])
        replies = [reply for reply in replies if reply.max_length <= limit]
        reset_rope(model)
    # The longest first: what is left at the end is short, and neighbors are of a length.
    replies = sorted(replies, key=lambda reply: (-reply.max_length, reply.row.tokens))
    while replies:
        try:
            _run(Decoder(model), replies, budget.tokens, progress)
        except Exception as error:
            left = [reply.max_length for reply in replies if not reply.ended]
            if not is_out_of_memory(error) or budget.tokens <= max(left, default=0):
                raise
        else:
            return
        # Out of the except block: the error's traceback holds on to everything the rows had in memory.
        budget.halve(below=sum(left) or None)
        replies = [reply for reply in replies if not reply.ended]


def _run(decoder: Decoder, replies: Sequence[Reply], budget_tokens: int, progress: Progress) -> None:
    """All replies to their end, in the order given."""
    prompts = [reply.tokens for reply in replies]
    batch = RowBatch(decoder, budget_tokens, shared_prefixes(prompts, int(budget_tokens * _PREFIX_SHARE)))
    waiting = list(replies)
    try:
        while waiting or batch.replies:
            count = batch.admit(waiting)
            if count:
                batch.prefill(waiting[:count])
                del waiting[:count]
            else:
                batch.decode()
            _report(batch.remove_ended(), progress)
    except BaseException:
        _report([reply for reply in batch.replies if reply.ended], progress)
        raise


def _report(ended: Sequence[Reply], progress: Progress) -> None:
    if ended:
        progress(len(ended), sum(reply.length for reply in ended))
