"""The one place where a fault gets its consequence.

A fault of the model costs its miner the epoch; every other fault leaves the epoch undecided: the old
weights stand and it is tried again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sn37 import errors
from sn37.errors import Owner, Sn37Error

__all__ = ["Fault"]

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
    """A fault as a record keeps it: who owns it, and the reason in one sentence."""

    owner: Owner
    reason: str

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        """The fault behind an exception; anything unforeseen is the evaluator's."""
        if isinstance(error, Sn37Error):
            return cls(error.owner, _plain(str(error)))
        return cls("evaluator", _plain(f"{type(error).__name__}: {error}"))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Fault | None:
        """A fault from a record, or None."""
        return None if data is None else cls(data["owner"], data["reason"])

    def to_dict(self) -> dict[str, str]:
        """Plain data for a record."""
        return asdict(self)

    @property
    def decides(self) -> bool:
        """Whether the epoch can be decided all the same: only the miner loses."""
        return self.owner == "model"

    def error(self) -> Sn37Error:
        """The exception that stands for this fault."""
        return _TYPES[self.owner](self.reason)


def _plain(text: str) -> str:
    """One line that any file, terminal and page can show: a reason may quote what a miner wrote."""
    line = " ".join(text.split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return shown if len(shown) <= _MAX_CHARACTERS else f"{shown[: _MAX_CHARACTERS - 3]}..."
