"""Keys and values of many rows at once, where a row may enter and leave at any step.

A row's token at position p is in column p, whatever its neighbours are: nothing is padded, shifted or
concatenated when a row comes or goes, and a sliding window or a bias by distance sees true positions. What
is behind a row's last token is masked by whoever attends, and is zero or the row's own, never another's.

A model meets the cache as a view, made for one forward pass: `Entering` for prompts, `Stepping` for one token
of every row, `Kept` for a beginning that prompts share. Views speak as much of the protocol of transformers'
caches as the models use.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["Entering", "Kept", "RowCache", "Stepping"]

Pair = tuple[torch.Tensor, torch.Tensor]


class RowCache:
    """Room for `rows` rows of up to `columns` tokens, in every layer: (rows, heads, columns, size of a head).

    written: no column from this one on was ever written to; all of them are zero.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns
        self.written = 0
        self.layers: list[Pair] = []

    def layer(self, index: int, keys: torch.Tensor, values: torch.Tensor) -> Pair:
        """The room of one layer, made when the first keys and values show what it has to hold."""
        if index == len(self.layers):
            self.layers.append((self._room(keys), self._room(values)))
        return self.layers[index]

    def move(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Rows in new places; what was there is gone."""
        for pair in self.layers:
            for room in pair:
                room[targets, :, : self.written] = room[sources, :, : self.written]

    def resize(self, rows: int, columns: int, kept: int) -> None:
        """Other room, with the first `kept` rows in it; layer by layer, so that only one is held twice."""
        self.rows, self.columns = rows, columns
        self.written = min(self.written, columns) if kept else 0
        for index, (keys, values) in enumerate(self.layers):
            self.layers[index] = (self._resized(keys, kept), self._resized(values, kept))

    def _resized(self, room: torch.Tensor, kept: int) -> torch.Tensor:
        other = self._room(room)
        other[:kept, :, : self.written] = room[:kept, :, : self.written]
        return other

    def _room(self, like: torch.Tensor) -> torch.Tensor:
        # Zero, for a masked column still takes part in a product, and zero times what memory holds may be NaN.
        return like.new_zeros((self.rows, like.shape[1], self.columns, like.shape[3]))


class _View:
    """What a model asks of any cache: how many tokens are `before` the ones it is given."""

    before = 0

    def get_seq_length(self, layer: int = 0) -> int:
        return self.before

    def get_query_offset(self, layer: int = 0) -> int:
        return self.before

    def get_mask_sizes(self, query_length: int, layer: int = 0) -> tuple[int, int]:
        return self.before + query_length, 0


class Kept(_View):
    """Keeps what it is given: the keys and values of a beginning that prompts share."""

    def __init__(self) -> None:
        self.layers: list[Pair] = []

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: Any, **kwargs: Any) -> Pair:
        self.layers.append((keys, values))
        return keys, values


class Entering(_View):
    """For prompts, without the beginning they share, if any: the row `first + i` gets the prompt `which[i]`.

    A prompt is computed once for all rows that have it. Shorter prompts are padded at their end, where no token
    sees what follows it.
    """

    def __init__(self, cache: RowCache, first: int, which: torch.Tensor, shared: Kept | None = None) -> None:
        self.cache, self.which, self.shared = cache, which, shared
        self.rows = slice(first, first + len(which))
        self.stale = cache.written
        self.before = shared.layers[0][0].shape[2] if shared is not None else 0

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: Any, **kwargs: Any) -> Pair:
        if self.shared is not None:
            old_keys, old_values = self.shared.layers[layer]
            keys = torch.cat((old_keys.expand(len(keys), -1, -1, -1), keys), dim=2)
            values = torch.cat((old_values.expand(len(values), -1, -1, -1), values), dim=2)
        width = keys.shape[2]
        for room, new in zip(self.cache.layer(layer, keys, values), (keys, values), strict=True):
            room[self.rows, :, :width] = new if len(new) == len(self.which) else new[self.which]
            room[self.rows, :, width : self.stale] = 0
        self.cache.written = max(self.cache.written, width)
        return keys, values


class Stepping(_View):
    """For one more token of each of the first rows; row i's stands at `positions[i]`, all below `columns`."""

    def __init__(self, cache: RowCache, positions: torch.Tensor, columns: int) -> None:
        self.cache, self.positions, self.columns = cache, positions, columns
        self.rows = torch.arange(len(positions), device=positions.device)
        self.before = columns - 1
        cache.written = max(cache.written, columns)

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: Any, **kwargs: Any) -> Pair:
        all_keys, all_values = self.cache.layers[layer]
        all_keys[self.rows, :, self.positions] = keys[:, :, 0]
        all_values[self.rows, :, self.positions] = values[:, :, 0]
        count = len(self.rows)
        return all_keys[:count, :, : self.columns], all_values[:count, :, : self.columns]
