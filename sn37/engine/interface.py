"""What a method asks of an engine: losses of given tokens, and greedy continuations.

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
    """tokens: the whole sequence; start: index of the first target, 1 <= start < len(tokens).

    Token i is a target when i >= start; it is predicted from all tokens before it.
    """

    tokens: tuple[int, ...]
    start: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.start < len(self.tokens):
            raise ValueError(f"start is {self.start}; expected 1 or more and below the {len(self.tokens)} tokens")


@dataclass(frozen=True)
class GenerateRow:
    """One greedy continuation.

    tokens: the prompt; max_new_tokens: at most so many are appended; repetition_penalty: 1 for
    none, applied to the row's own tokens (prompt and reply) only; stop: called with the new tokens
    so far after each one, True ends the row early; eos: ids that end a row (kept out of the result).
    """

    tokens: tuple[int, ...]
    max_new_tokens: int
    repetition_penalty: float = 1.0
    eos: frozenset[int] = frozenset()
    stop: Callable[[Sequence[int]], bool] | None = None


Progress = Callable[[int, int], None]
"""Called with (rows newly finished, tokens processed with them)."""


class Engine(Protocol):
    """A loaded model that can be asked."""

    @property
    def sequence_length(self) -> int:
        """The most tokens a row may have, prompt and reply together."""
        ...

    def losses(self, rows: Sequence[LossRow], progress: Progress | None = None) -> list[float]:
        """For each row the sum of cross-entropies of its targets, in nats (lower is better).

        The mean is this divided by `len(tokens) - start`.
        """
        ...

    def generate(self, rows: Sequence[GenerateRow], progress: Progress | None = None) -> list[list[int]]:
        """For each row the new tokens, without the end-of-sequence token."""
        ...
