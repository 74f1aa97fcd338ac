"""The records: one sealed folder per epoch, the only truth.

    <root>/<competition id>/<sync block>/
        manifest.json     all that is needed to repeat the epoch
        samples/          <TASK>.jsonl, one sample per line
        results/          <hotkey>.json, one model's result on every sample
        decision.json     scores, duel, winner
        published.json    what was set on the chain (added after the epoch)
        epoch.ipynb, report.html   the executed notebook (added after the run)

An epoch is built in `<sync block>.work` beside it and renamed into place when it is decided, so a kill
costs at most the work in flight: what lies in the work folder is used again. A `fault.json` says what stopped
the last run and whose fault that was: in a work folder, the epoch could not be decided; in a sealed one, its weights
are not on the chain yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sn37.errors import EvaluatorFault, disk_faults
from sn37.files import read_json, write_json
from sn37.records.history import History, history_of

__all__ = ["Epoch", "Records"]

_WORK = ".work"


@dataclass(frozen=True)
class Epoch:
    """One epoch's folder, sealed or still at work. Reads lazily, keeps what it read."""

    folder: Path

    @property
    def sync_block(self) -> int:
        """The epoch's sync block."""
        return int(self.folder.name.removesuffix(_WORK))

    @property
    def competition_id(self) -> int:
        """The competition the epoch belongs to."""
        return int(self.folder.parent.name)

    @property
    def sealed(self) -> bool:
        """Whether the epoch is decided and in its place."""
        return not self.folder.name.endswith(_WORK)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """All that is needed to repeat the epoch."""
        return dict(read_json(self.folder / "manifest.json") or {})

    @cached_property
    def decision(self) -> dict[str, Any]:
        """Scores, duel and winner. Raises EvaluatorFault where a sealed epoch has lost them."""
        found = read_json(self.folder / "decision.json")
        if found is None and self.sealed:
            raise EvaluatorFault(f"the record {self.folder} has no decision.json; move it away to go on")
        return dict(found or {})

    @cached_property
    def results(self) -> dict[str, dict[str, Any]]:
        """Each model's result on every sample, by hotkey."""
        files = sorted((self.folder / "results").glob("*.json"))
        return {path.stem: read_json(path) for path in files}

    def samples(self, task: str) -> list[dict[str, Any]]:
        """The samples of a task, as plain data."""
        path = self.folder / "samples" / f"{task}.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def write(self, name: str, data: Any) -> None:
        """Write one JSON file of the epoch."""
        write_json(self.folder / name, data)

    def read(self, name: str) -> Any:
        """Read one JSON file of the epoch, None where it is missing."""
        return read_json(self.folder / name)

    def remove(self, name: str) -> None:
        """Remove one file of the epoch, where it is there."""
        path = self.folder / name
        with disk_faults(path):
            path.unlink(missing_ok=True)

    def seal(self) -> Epoch:
        """Rename the work folder into place; the epoch is decided from here on."""
        place = self.folder.with_name(self.folder.name.removesuffix(_WORK))
        with disk_faults(place):
            self.folder.rename(place)
        return Epoch(place)


@dataclass(frozen=True)
class Records:
    """All epochs of one validator. Averages and histories are folds over them."""

    root: Path

    def epoch(self, competition_id: int, sync_block: int) -> Epoch:
        """The sealed epoch, or the work folder (made when missing) of one that is not decided yet."""
        place = self.root / str(competition_id) / str(sync_block)
        if place.is_dir():
            return Epoch(place)
        work = place.with_name(place.name + _WORK)
        with disk_faults(work):
            work.mkdir(parents=True, exist_ok=True)
        return Epoch(work)

    def competitions(self) -> list[int]:
        """The ids of the competitions with at least one folder."""
        if not self.root.is_dir():
            return []
        return sorted(int(path.name) for path in self.root.iterdir() if path.name.isdigit())

    def sealed(self, competition_id: int, before: int | None = None) -> list[Epoch]:
        """The decided epochs of a competition in the order of sync blocks, those below `before` only."""
        folder = self.root / str(competition_id)
        blocks = sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())
        return [Epoch(folder / str(block)) for block in blocks if before is None or block < before]

    def open(self) -> Iterator[Epoch]:
        """The epochs that are at work or could not be decided."""
        for competition_id in self.competitions():
            yield from (Epoch(path) for path in sorted((self.root / str(competition_id)).glob(f"*{_WORK}")))

    def history(self, competition_id: int, before: int | None = None, remembered: int = 3) -> History:
        """Who won and what each submission was measured at, folded over the decided epochs of a competition.

        before: only epochs of sync blocks below it count, so that an old epoch sees what was known then; None: all.
        remembered: results kept in mind per submission.
        """
        return history_of((epoch.decision for epoch in self.sealed(competition_id, before)), remembered)
