"""Cross-entropies of many rows at once, equal to one row at a time with all its logits.

The body of the model runs once over length-sorted batches (`sn37.engine.packing`); the head only where a target
is, in chunks (`sn37.engine.head`). The result of a row does not depend on its neighbors, their order or the
budget: to 1e-5 in float32; in bfloat16 the shape of a batch moves the last digits, and so the plan is canonical.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sn37.engine.architectures import architecture_of
from sn37.engine.head import Head, hidden_states
from sn37.engine.interface import LossRow, Progress
from sn37.engine.masks import packed_inputs
from sn37.engine.memory import Budget, is_out_of_memory
from sn37.engine.packing import Pack, batches, packs
from sn37.engine.rope import reset_rope, rope_length_limit

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["losses", "token_losses"]

_TOKENS_PER_TOKEN = 8
"""What a token costs here of a budget that also holds generation, which works on one token of a row at a time:
a body runs fastest over a few thousand tokens, whose activations stay near the processor."""


def losses(
    model: PreTrainedModel,
    rows: Sequence[LossRow],
    *,
    sequence_length: int,
    budget: Budget,
    progress: Progress | None = None,
) -> list[float]:
    """For each row the sum of cross-entropies of its targets, in nats.

    budget: eight times the padded tokens of one batch; it is halved where memory runs out, and what is left is
    planned anew.
    Raises ValueError for a row with more than `sequence_length` tokens.
    """
    for row in rows:
        if len(row.tokens) > sequence_length:
            raise ValueError(f"a row has {len(row.tokens)} tokens; expected at most {sequence_length}")
    results = [0.0] * len(rows)
    left = set(range(len(rows)))
    head, limit = Head(model), rope_length_limit(model) or sequence_length
    while left:
        order = sorted(left)
        planned = _plan(model, [rows[i] for i in order], max(1, budget.tokens // _TOKENS_PER_TOKEN), limit)
        for batch in planned:
            found = _attempt(model, head, batch, budget)
            if found is None:
                break
            done = [order[i] for pack in batch for i in pack.rows]
            for index, loss in zip(done, found, strict=True):
                results[index] = loss
            left.difference_update(done)
            if progress is not None:
                progress(len(done), sum(len(rows[i].tokens) for i in done))
    return results


def token_losses(model: PreTrainedModel, row: LossRow) -> list[float]:
    """The cross-entropy of each target of one row, in nats: what `losses` sums."""
    with torch.inference_mode():
        (found,) = _batch_losses(model, Head(model), [Pack((0,), row.tokens[: row.start], (row.targets,))])
    return found.tolist()


def _plan(model: PreTrainedModel, rows: Sequence[LossRow], max_tokens: int, limit: int) -> list[list[Pack]]:
    """Batches in their order. limit: a row longer than this turns everybody's positions, and so goes alone."""
    alone = [Pack((i,), row.tokens[: row.start], (row.targets,)) for i, row in enumerate(rows)]
    alone = [pack for pack in alone if pack.length > limit]
    places = [i for i, row in enumerate(rows) if len(row.tokens) <= limit]
    # A bias by distance is made of a mask that cannot say whose a token is: then no prefix is shared.
    share = not architecture_of(model).uses_alibi(model.config)
    together = packs([rows[i] for i in places], max_tokens, share=share)
    placed = [Pack(tuple(places[i] for i in pack.rows), pack.prefix, pack.suffixes) for pack in together]
    return [*([pack] for pack in alone), *batches(placed, max_tokens)]


def _attempt(model: PreTrainedModel, head: Head, batch: Sequence[Pack], budget: Budget) -> list[float] | None:
    """The batch's losses, or None where it took too much memory and the budget was halved."""
    try:
        with torch.inference_mode():
            return [float(row.sum()) for row in _batch_losses(model, head, batch)]
    except Exception as error:
        alone = len(batch) == 1 and not batch[0].shared
        if not is_out_of_memory(error) or alone:
            raise
    # Outside the handler, whose traceback keeps everything alive that the batch held.
    budget.halve(below=_TOKENS_PER_TOKEN * len(batch) * batch[0].length)
    return None


def _batch_losses(model: PreTrainedModel, head: Head, batch: Sequence[Pack]) -> Sequence[torch.Tensor]:
    """The losses (targets,) of each row's targets, in the order of the packs and of their rows."""
    reset_rope(model)
    width, device = batch[0].length, model.device
    ids = torch.tensor([pack.tokens + (0,) * (width - pack.length) for pack in batch], device=device)  # (B, T)
    if batch[0].shared:
        with packed_inputs(model, batch, width) as arguments:
            states = hidden_states(model, ids, use_cache=False, **arguments)
    else:
        # Padding stands behind, where no token of the row sees it: the model's own causal mask will do.
        states = hidden_states(model, ids, use_cache=False)
    places, targets, counts = _targets(batch, width)
    # The head works only where a target is predicted: (B, T, H) -> (B * T, H) -> (targets, H).
    hidden = states.reshape(-1, states.shape[-1])[torch.tensor(places, device=device)]
    del states
    found = head.losses(hidden, torch.tensor(targets, device=device))
    return torch.split(found.cpu(), counts)


def _targets(batch: Sequence[Pack], width: int) -> tuple[list[int], list[int], list[int]]:
    """(where each target is predicted from, counted over the whole batch; the targets; how many each row has)."""
    places: list[int] = []
    targets: list[int] = []
    counts: list[int] = []
    for line, pack in enumerate(batch):
        before = line * width + len(pack.prefix)  # the column of the pack's first suffix
        column = before
        for suffix in pack.suffixes:
            # Its first token is predicted by the last of the prefix, each further one by the token before it.
            places.extend((before - 1, *range(column, column + len(suffix) - 1)))
            targets.extend(suffix)
            counts.append(len(suffix))
            column += len(suffix)
    return places, targets, counts
