"""Which earlier submission a model copies: by its files, by its weights, or by how far sampled weights are apart.

    copies.nearest(result, others)      # a Copy, or None where nothing earlier compares
    copies.of(records.sealed(4))        # of every submission, by (hotkey, text)

Pure functions of records. What they say informs and decides nothing: by the rules a copy cannot win, and it is not
punished twice. They do not see through a copy whose neurons were permuted or rescaled (`sn37.evaluation.sketch`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sn37.records.epochs import Epoch
from sn37.records.history import Key
from sn37.records.results import Result, Sketch

__all__ = ["NEAR", "Copy", "distance", "measured", "nearest", "of", "pairs"]

NEAR = 0.01
"""Below this distance a model is called a near-copy.

On the devnet noise of 1 % of every weight gives 0.006, bfloat16 for float32 0.001, 25 more steps of training 0.19. A
finetune at a small learning rate can lie below as well: it is a word for a distance, no verdict.
"""


@dataclass(frozen=True)
class Copy:
    """The nearest earlier submission to a model."""

    hotkey: str
    """Who committed it."""
    uid: int
    """Its uid."""
    block: int
    """The block of its commitment."""
    distance: float
    """How far the sampled weights are apart: 0 for none of them, about 1 for models that have nothing in common."""
    equal: Literal["files", "weights", ""]
    """What is equal altogether: the files, or all weights; "" for neither."""

    @property
    def near(self) -> bool:
        """Whether it is a copy or a near-copy: closer than `NEAR`."""
        return bool(self.equal) or self.distance < NEAR

    def __str__(self) -> str:
        other = f"uid {self.uid}, committed at block {self.block}"
        if self.equal:
            return f"the same {self.equal} as {other}"
        return f"{'a near-copy of' if self.near else 'nearest to'} {other}: distance of weights {self.distance:.2g}"


def distance(first: Sketch, second: Sketch) -> float | None:
    """How far the sampled weights of two models are apart, in [0, 1]; None where most of their tensors differ in shape.

    The mean over the tensors they share of `|a - b| / sqrt(|a|^2 + |b|^2)`, at most 1: symmetric, whatever the scale of
    a tensor. 0 for equal weights, about 1 for unrelated ones; noise of a share s of the weights gives `s / sqrt(2)`.
    """
    common = first.tensors.keys() & second.tensors.keys()
    if 2 * len(common) < max(len(first.tensors), len(second.tensors), 1):
        return None
    return math.fsum(_share(first.tensors[key], second.tensors[key]) for key in common) / len(common)


def _share(first: Sequence[float], second: Sequence[float]) -> float:
    """How far the weights of one tensor are apart, as a share of their size; 0 where both are 0."""
    count = min(len(first), len(second))
    mine, theirs = first[:count], second[:count]
    size = math.hypot(*mine, *theirs)
    return min(1.0, math.dist(mine, theirs) / size) if size else 0.0


def nearest(result: Result, others: Iterable[Result]) -> Copy | None:
    """The nearest of the others' submissions that were committed before this one, the oldest of equally near ones.

    A submission of the same hotkey is its own, and none of one block is earlier than another. None where nothing
    compares: no measurement, no sketch, other shapes.
    """
    earlier = [other for other in others if other.block < result.block and other.hotkey != result.hotkey]
    earlier.sort(key=lambda other: (other.block, other.uid))
    for other in earlier:
        if result.content_hash and other.content_hash == result.content_hash:
            return Copy(other.hotkey, other.uid, other.block, 0.0, "files")
    found = [(apart, other) for other in earlier if (apart := _apart(result, other)) is not None]
    if not found:
        return None
    apart, other = min(found, key=lambda each: (each[0], _digest(each[1]) != _digest(result)))
    equal = _digest(other) == _digest(result)
    return Copy(other.hotkey, other.uid, other.block, apart, "weights" if equal else "")


def measured(epochs: Sequence[Epoch]) -> dict[Key, Result]:
    """The last result of every submission that has one with a score, by hotkey and text; one file is read of each."""
    last = {
        (score.hotkey, score.text): epoch
        for epoch in epochs
        for score in epoch.decision.scores
        if score.score is not None
    }
    found = {key: epoch.result(key[0]) for key, epoch in last.items()}
    return {key: result for key, result in found.items() if result is not None}


def of(epochs: Sequence[Epoch]) -> Mapping[Key, Copy]:
    """The nearest earlier submission, among all that these epochs of one competition measured, of each of them."""
    results = measured(epochs)
    found = {key: nearest(result, results.values()) for key, result in results.items()}
    return {key: copy for key, copy in found.items() if copy is not None}


def pairs(epochs: Sequence[Epoch]) -> list[tuple[Result, Result, float]]:
    """(one, another, their distance) of every two that compare, in both orders, oldest commitments first.

    Of the submissions that these epochs of one competition measured: the newest of each hotkey.
    """
    ordered = sorted(measured(epochs).values(), key=lambda result: (result.block, result.uid))
    found = list({result.hotkey: result for result in ordered}.values())
    apart = [(one, other, _apart(one, other)) for one in found for other in found if one is not other]
    return [(one, other, value) for one, other, value in apart if value is not None]


def _apart(one: Result, other: Result) -> float | None:
    first, second = _sketch(one), _sketch(other)
    return None if first is None or second is None else distance(first, second)


def _digest(result: Result) -> str | None:
    sketch = _sketch(result)
    return sketch.digest if sketch else None


def _sketch(result: Result) -> Sketch | None:
    return None if result.measurement is None else result.measurement.sketch
