"""The one place where a fault gets its consequence.

A fault of the model costs its miner the epoch. One that is tied to a single submission makes the epoch wait twice;
then that submission is set aside. Every other fault leaves the epoch undecided: the old weights stand and it is tried
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sn37 import errors
from sn37.errors import Owner, Sn37Error

__all__ = ["MAX_WAITS", "Fault", "StageFault", "Waits", "printable"]

MAX_WAITS = 2
"""How often an epoch waits for one submission (protocol, section 7)."""

_MAX_CHARACTERS = 2_000

_TYPES: dict[Owner, type[Sn37Error]] = {
    "user": errors.ConfigError,
    "model": errors.ModelFault,
    "submission": errors.SubmissionFault,
    "data": errors.DataFault,
    "evaluator": errors.EvaluatorFault,
    "chain": errors.ChainFault,
}


@dataclass(frozen=True)
class Fault:
    """A fault as a record keeps it."""

    owner: Owner
    """Whose fault it is."""
    reason: str
    """What went wrong, in one sentence that anything can show."""

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        """The fault behind an exception; anything unforeseen is the evaluator's."""
        if isinstance(error, Sn37Error):
            return cls(error.owner, _one_line(str(error)))
        return cls("evaluator", _one_line(f"{type(error).__name__}: {error}"))

    @property
    def decides(self) -> bool:
        """Whether the epoch can be decided all the same: only the miner loses."""
        return self.owner == "model"

    def error(self) -> Sn37Error:
        """The exception that stands for this fault."""
        return _TYPES[self.owner](self.reason)


@dataclass(frozen=True)
class StageFault(Fault):
    """What stopped the last run of an epoch."""

    stage: str
    """The stage that was stopped: `plan`, `fetch`, `evaluate`, `decide` or `publish`."""


@dataclass(frozen=True)
class Waits:
    """How often an epoch has waited for submissions that could not be had; kept while it is undecided."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """How often for each, by hotkey."""

    def add(self, hotkey: str) -> Waits:
        """One more for this hotkey."""
        return Waits({**self.counts, hotkey: self.counts.get(hotkey, 0) + 1})

    def over(self, hotkey: str) -> bool:
        """Whether the epoch has waited for this hotkey as often as it may."""
        return self.counts.get(hotkey, 0) > MAX_WAITS


def printable(text: str) -> str:
    """A text that any file, terminal and page can show as one line: control characters are spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _one_line(text: str) -> str:
    """A reason as a record keeps it: it may quote what a miner wrote."""
    shown = printable(" ".join(text.split()))
    return shown if len(shown) <= _MAX_CHARACTERS else f"{shown[: _MAX_CHARACTERS - 3]}..."
