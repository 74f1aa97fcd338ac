"""What a validator's programs do: one line an event, and the newest of each kept for `sn37 validator status`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sn37.errors import EvaluatorFault
from sn37.files import write_json

__all__ = ["Journal", "folder_of"]

_NOTHING: Mapping[str, object] = {}


def folder_of(root: Path) -> Path:
    """Where the programs of the validator in `root` keep what they do."""
    return root / "status"


@dataclass(frozen=True)
class Journal:
    """The log of one program of a validator.

    >>> Journal("weights", Path("validator"), say=print).event("set in block 5,200,700", block=5_200_700)
    2026-01-01 12:00:00  weights   block 5,200,700  set in block 5,200,700
    """

    program: str
    """Whose log it is."""
    root: Path
    """The validator's folder."""
    say: Callable[[str], None]
    """Where lines go."""
    as_json: bool = False
    """One JSON object a line, for machines."""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When the program started."""

    def event(
        self,
        what: str,
        *,
        block: int | None = None,
        seconds: float | None = None,
        more: Mapping[str, object] = _NOTHING,
    ) -> None:
        """Something happened: a line, and the program's state from now on. more: what machines want to know of it."""
        now = self.state(what, block=block, more=more)
        if self.as_json:
            told = {"time": now.isoformat(), "program": self.program, "block": block, "event": what, "seconds": seconds}
            self.say(json.dumps({**{name: value for name, value in told.items() if value is not None}, **more}))
            return
        place = "" if block is None else f"block {block:,}"
        took = "" if seconds is None else f"  ({seconds:.0f} s)"
        self.say(f"{now:%Y-%m-%d %H:%M:%S}  {self.program:<8}  {place:<15}  {what}{took}")

    def state(self, what: str, *, block: int | None = None, more: Mapping[str, object] = _NOTHING) -> datetime:
        """The program is alive and does this: kept for its status, without a line. Returns the time (UTC).

        A disk that takes no more stops no program: its status stays as it was.
        """
        now = datetime.now(UTC)
        kept = {
            **{"program": self.program, "pid": os.getpid(), "since": self.since.isoformat(), "at": now.isoformat()},
            **{"doing": what, "block": block, **more},
        }
        with suppress(EvaluatorFault):
            write_json(folder_of(self.root) / f"{self.program}.json", kept)
        return now
