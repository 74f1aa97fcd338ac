"""Which rows are computed together, and how: a plan made from the rows and a budget alone.

Rows that begin alike, as the choices of one question do, become one pack: their common beginning once, then each
one's own end. Packs of about one length become a batch under the budget. The same rows and the same budget give the
same batches in the same order on every machine, whatever order the rows came in; nothing else goes into the plan.

Pure: knows nothing of models or tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sn37.engine.interface import LossRow

__all__ = ["Pack", "batches", "packs"]

_LEAST_SAVED = 0.25
"""The share of tokens that a common beginning must save to be worth a mask of its own."""


@dataclass(frozen=True)
class Pack:
    """A common beginning and the ends of one or more rows after it: `rows[k]` owns `ends[k]`.

    The targets are the ends' tokens. A single row is a pack too.
    """

    rows: tuple[int, ...]
    beginning: tuple[int, ...]
    ends: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """The tokens that are computed."""
        return len(self.beginning) + sum(map(len, self.ends))

    @property
    def shared(self) -> bool:
        """Whether more than one row shares the beginning."""
        return len(self.rows) > 1

    @property
    def tokens(self) -> tuple[int, ...]:
        """Everything in a line: the beginning, then the ends."""
        return self.beginning + tuple(token for end in self.ends for token in end)


def packs(rows: Sequence[LossRow], max_tokens: int, *, share: bool = True) -> list[Pack]:
    """The rows as packs of at most `max_tokens` (a single row may be longer), the longest first.

    share: whether the beginning before the targets is computed once for rows that have it in common.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.tokens[: row.start], []).append(index)
    found: list[Pack] = []
    for beginning, members in groups.items():
        ends = sorted((rows[index].tokens[len(beginning) :], index) for index in members)
        if not share or not _worth(len(beginning), [len(end) for end, _ in ends]):
            found.extend(Pack((index,), beginning, (end,)) for end, index in ends)
            continue
        found.extend(_split(beginning, ends, max_tokens))
    return sorted(found, key=lambda pack: (-pack.length, pack.tokens, len(pack.beginning), pack.rows))


def _worth(beginning: int, ends: Sequence[int]) -> bool:
    saved = beginning * (len(ends) - 1)
    return saved >= _LEAST_SAVED * (beginning * len(ends) + sum(ends))


def _split(beginning: tuple[int, ...], ends: list[tuple[tuple[int, ...], int]], max_tokens: int) -> list[Pack]:
    """Packs of one beginning, each with as many ends as fit."""
    found: list[Pack] = []
    taken: list[tuple[tuple[int, ...], int]] = []
    used = len(beginning)
    for end, index in ends:
        if taken and used + len(end) > max_tokens:
            found.append(Pack(tuple(i for _, i in taken), beginning, tuple(e for e, _ in taken)))
            taken, used = [], len(beginning)
        taken.append((end, index))
        used += len(end)
    found.append(Pack(tuple(i for _, i in taken), beginning, tuple(e for e, _ in taken)))
    return found


def batches(packs: Sequence[Pack], max_tokens: int) -> list[list[Pack]]:
    """Packs side by side, padded to the longest: at most `max_tokens` a batch, padding counted, or one single pack.

    packs: sorted as `packs` leaves them. Shared and single ones never mix, for they are masked differently.
    """
    found: list[list[Pack]] = []
    for shared in (False, True):
        width = 0
        batch: list[Pack] = []
        for pack in (pack for pack in packs if pack.shared is shared):
            if batch and width * (len(batch) + 1) > max_tokens:
                found.append(batch)
                batch = []
            width = width if batch else pack.length
            batch.append(pack)
        if batch:
            found.append(batch)
    return found
