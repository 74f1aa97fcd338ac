"""Which rows are computed together, and how: a plan made from the rows and a budget alone.

Rows that begin alike, as the choices of one question do, become one pack: their common prefix once, then each
one's own suffix. Packs of about one length become a batch under the budget. The same rows and the same budget give the
same batches in the same order on every machine, whatever order the rows came in; nothing else goes into the plan.

Pure: knows nothing of models or tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sn37.engine.interface import LossRow

__all__ = ["Pack", "batches", "packs"]

_LEAST_SAVED = 0.25
"""The share of tokens that a common prefix must save to be worth a mask of its own."""


@dataclass(frozen=True)
class Pack:
    """A common prefix and the suffixes of one or more rows after it: `rows[k]` owns `suffixes[k]`.

    A single row is a pack too.
    """

    rows: tuple[int, ...]
    """The rows, by their place among those that were packed."""
    prefix: tuple[int, ...]
    """The tokens all of them begin with, none of them a target."""
    suffixes: tuple[tuple[int, ...], ...]
    """The targets of each row."""

    @property
    def length(self) -> int:
        """The tokens that are computed."""
        return len(self.prefix) + sum(map(len, self.suffixes))

    @property
    def shared(self) -> bool:
        """Whether more than one row shares the prefix."""
        return len(self.rows) > 1

    @property
    def tokens(self) -> tuple[int, ...]:
        """Everything in a line: the prefix, then the suffixes."""
        return self.prefix + tuple(token for suffix in self.suffixes for token in suffix)


def packs(rows: Sequence[LossRow], max_tokens: int, *, share: bool = True) -> list[Pack]:
    """The rows as packs of at most `max_tokens` (a single row may be longer), the longest first.

    share: whether the prefix before the targets is computed once for rows that have it in common.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.tokens[: row.start], []).append(index)
    found: list[Pack] = []
    for prefix, members in groups.items():
        suffixes = sorted((rows[index].targets, index) for index in members)
        if not share or not _is_worth_sharing(len(prefix), [len(suffix) for suffix, _ in suffixes]):
            found.extend(Pack((index,), prefix, (suffix,)) for suffix, index in suffixes)
            continue
        found.extend(_split(prefix, suffixes, max_tokens))
    return sorted(found, key=lambda pack: (-pack.length, pack.tokens, len(pack.prefix), pack.rows))


def _is_worth_sharing(prefix: int, suffixes: Sequence[int]) -> bool:
    """Whether a prefix of so many tokens, computed once for suffixes of such lengths, saves enough of all tokens."""
    saved = prefix * (len(suffixes) - 1)
    return saved >= _LEAST_SAVED * (prefix * len(suffixes) + sum(suffixes))


def _split(prefix: tuple[int, ...], suffixes: list[tuple[tuple[int, ...], int]], max_tokens: int) -> list[Pack]:
    """Packs of one prefix, each with as many suffixes as fit."""
    found: list[Pack] = []
    taken: list[tuple[tuple[int, ...], int]] = []
    used = len(prefix)
    for suffix, index in suffixes:
        if taken and used + len(suffix) > max_tokens:
            found.append(Pack(tuple(i for _, i in taken), prefix, tuple(e for e, _ in taken)))
            taken, used = [], len(prefix)
        taken.append((suffix, index))
        used += len(suffix)
    found.append(Pack(tuple(i for _, i in taken), prefix, tuple(e for e, _ in taken)))
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
