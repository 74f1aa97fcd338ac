"""The KV cache: keys and values of many rows at once, where a row may enter and leave at any step.

A row's token at position p is in column p, whatever its neighbors are: nothing is padded, shifted or
concatenated when a row comes or goes, and a sliding window or a bias by distance sees true positions. What
is behind a row's last token is masked by whoever attends, and is zero or the row's own, never another's.

A model meets the cache as a view, made for one forward pass: `PrefillView` for prompts, `DecodeView` for one token
of every row, `PrefixCache` for a prefix that prompts share. Views have as much of the interface of transformers'
caches as the models use.
"""

from __future__ import annotations

import torch

__all__ = ["DecodeView", "KVCache", "PrefillView", "PrefixCache"]

Pair = tuple[torch.Tensor, torch.Tensor]
"""The keys and the values of one layer."""


class KVCache:
    """Space for `rows` rows of up to `columns` tokens, in every layer: (rows, heads, columns, size of a head)."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns
        self.written = 0
        """No column from this one on was ever written to; all of them are zero."""
        self.layers: list[Pair] = []

    def layer(self, index: int, keys: torch.Tensor, values: torch.Tensor) -> Pair:
        """The space of one layer, made when the first keys and values show what it has to hold."""
        if index == len(self.layers):
            self.layers.append((self._space(keys), self._space(values)))
        return self.layers[index]

    def move(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Copy rows to other places; what was there is gone."""
        for pair in self.layers:
            for space in pair:
                space[targets, :, : self.written] = space[sources, :, : self.written]

    def resize(self, rows: int, columns: int, kept: int) -> None:
        """More or less space, with the first `kept` rows in it; layer by layer, so that only one is held twice."""
        self.rows, self.columns = rows, columns
        self.written = min(self.written, columns) if kept else 0
        for index, (keys, values) in enumerate(self.layers):
            self.layers[index] = (self._resized(keys, kept), self._resized(values, kept))

    def _resized(self, space: torch.Tensor, kept: int) -> torch.Tensor:
        other = self._space(space)
        other[:kept, :, : self.written] = space[:kept, :, : self.written]
        return other

    def _space(self, like: torch.Tensor) -> torch.Tensor:
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


class PrefixCache(_View):
    """Keeps what it is given: the keys and values of a prefix that prompts share, (1, heads, tokens, size)."""

    def __init__(self) -> None:
        self.layers: list[Pair] = []

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: object, **kwargs: object) -> Pair:
        self.layers.append((keys, values))
        return keys, values


class PrefillView(_View):
    """For prompts, without the prefix they share, if any: the row `first + i` gets the prompt `which[i]`.

    A prompt is computed once for all rows that have it. Shorter prompts are padded at their end, where no token
    sees what follows it.
    """

    def __init__(self, cache: KVCache, first: int, which: torch.Tensor, prefix: PrefixCache | None = None) -> None:
        self.cache, self.which, self.prefix = cache, which, prefix
        self.rows = slice(first, first + len(which))
        self.stale = cache.written
        self.before = prefix.layers[0][0].shape[2] if prefix is not None else 0

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: object, **kwargs: object) -> Pair:
        if self.prefix is not None:
            prefix_keys, prefix_values = self.prefix.layers[layer]
            keys = torch.cat((prefix_keys.expand(len(keys), -1, -1, -1), keys), dim=2)
            values = torch.cat((prefix_values.expand(len(values), -1, -1, -1), values), dim=2)
        width = keys.shape[2]
        for space, new in zip(self.cache.layer(layer, keys, values), (keys, values), strict=True):
            space[self.rows, :, :width] = new if len(new) == len(self.which) else new[self.which]
            space[self.rows, :, width : self.stale] = 0  # what a row before left there
        self.cache.written = max(self.cache.written, width)
        return keys, values


class DecodeView(_View):
    """For one more token of each of the first rows; row i's stands at `positions[i]`, all below `columns`."""

    def __init__(self, cache: KVCache, positions: torch.Tensor, columns: int) -> None:
        self.cache, self.positions, self.columns = cache, positions, columns
        self.rows = torch.arange(len(positions), device=positions.device)
        self.before = columns - 1
        cache.written = max(cache.written, columns)

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: object, **kwargs: object) -> Pair:
        all_keys, all_values = self.cache.layers[layer]
        all_keys[self.rows, :, self.positions] = keys[:, :, 0]
        all_values[self.rows, :, self.positions] = values[:, :, 0]
        count = len(self.rows)
        return all_keys[:count, :, : self.columns], all_values[:count, :, : self.columns]
