"""What a method needs of an engine: losses of given tokens, and greedy continuations.

Rows are plain token ids, so an engine knows nothing of samples, templates or methods. The result of
a row never depends on the other rows, their order or their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Engine", "GenerateRow", "LossRow", "Progress"]


@dataclass(frozen=True)
class LossRow:
    """A row whose last tokens are targets: token i is one when i >= start; it is predicted from all before it.

    >>> LossRow(tokens=(5, 9, 2, 7), start=2).targets
    (2, 7)
    """

    tokens: tuple[int, ...]
    """The whole sequence."""
    start: int = 1
    """The index of the first target, 1 <= start < len(tokens)."""

    def __post_init__(self) -> None:
        if not 1 <= self.start < len(self.tokens):
            raise ValueError(f"start is {self.start}; expected 1 or more and below the {len(self.tokens)} tokens")

    @property
    def targets(self) -> tuple[int, ...]:
        """The tokens whose cross-entropies are summed."""
        return self.tokens[self.start :]


@dataclass(frozen=True)
class GenerateRow:
    """One greedy continuation."""

    tokens: tuple[int, ...]
    """The prompt."""
    max_new_tokens: int
    """At most so many tokens are appended."""
    repetition_penalty: float = 1.0
    """1 for none; applied to the row's own tokens only, prompt and reply."""
    eos: frozenset[int] = frozenset()
    """Token ids that end a row; they are kept out of the reply."""
    stop: Callable[[Sequence[int]], bool] | None = None
    """Called with the new tokens so far after each one; True ends the row early."""


Progress = Callable[[int, int], None]
"""Called with (rows newly finished, tokens processed with them)."""


class Engine(Protocol):
    """A loaded model that computes losses and continuations."""

    @property
    def sequence_length(self) -> int:
        """The most tokens a row may have, prompt and reply together."""
        ...

    def losses(self, rows: Sequence[LossRow], progress: Progress | None = None) -> list[float]:
        """For each row the sum of cross-entropies of its targets, in nats (lower is better).

        The mean is this divided by `len(row.targets)`.
        """
        ...

    def generate(self, rows: Sequence[GenerateRow], progress: Progress | None = None) -> list[list[int]]:
        """For each row the new tokens, without the end-of-sequence token."""
        ...
