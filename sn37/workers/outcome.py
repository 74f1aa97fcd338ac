"""What became of a worker: its function's result, or the error that stands for it; as JSON and back.

Errors are built anew from their names, so that only this library's own types come out of a hostile worker's JSON.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from sn37 import errors
from sn37.errors import EvaluatorFault, Sn37Error

__all__ = ["Death", "Message", "Outcome", "WorkerDied", "packed", "unpacked"]

Message = dict[str, Any]
"""A JSON object: what a worker reports, and what its function returns."""

Death = Literal["signal", "time", "memory", "error", "garbage", "lost"]
"""How a worker ended: killed, by a limit (two), with an unexpected exception, with a result that cannot be read, with
its machine or the process that watched over it."""


_MAX_TEXT = 2000
"""As much as is kept of an error's text: a hostile file may be quoted in it."""


class WorkerDied(EvaluatorFault):
    """A worker ended without a result, and it is not known whose fault that is."""

    def __init__(self, kind: Death, text: str) -> None:
        super().__init__(text)
        self.kind: Death = kind


Outcome = Message | Sn37Error
"""The function's result, or the error that stands for it."""


def packed(outcome: Outcome) -> Message:
    """An outcome as JSON data."""
    if isinstance(outcome, WorkerDied):
        return {"died": [outcome.kind, str(outcome)]}
    if isinstance(outcome, Sn37Error):
        return {"fault": [type(outcome).__name__, str(outcome)]}
    return {"ok": outcome}


def unpacked(data: object) -> Outcome:
    """The outcome behind JSON data, whatever they are."""
    match data:
        case {"ok": dict(result)}:
            return result
        case {"fault": [str(name), str(text)]}:
            found = getattr(errors, name, None)
            kind = found if isinstance(found, type) and issubclass(found, Sn37Error) else EvaluatorFault
            return kind(text[:_MAX_TEXT])
        case {"died": [kind, str(text)]} if kind in get_args(Death):
            return WorkerDied(kind, text[:_MAX_TEXT])
    return WorkerDied("garbage", "the worker's result is not of the expected form")
