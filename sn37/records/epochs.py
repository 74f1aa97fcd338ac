"""The records: one sealed folder per epoch, the only truth.

    <root>/<competition id>/<sync block>/
        manifest.json     all that is needed to repeat the epoch
        samples/          <TASK>.jsonl, one sample per line
        results/          <hotkey>.json, one model's result on every sample
        decision.json     scores, reign, winner, who was set aside
        published.json    what was set on the chain (added after the epoch)
        epoch.ipynb, report.html   the executed notebook (added after the run)
    <root>/<competition id>/index.arrow   made of the decisions, for folds over many of them

An epoch is built in `<sync block>.work` beside it and renamed into place when it is decided, so a kill
costs at most the work in flight: what lies in the work folder is used again. A `fault.json` says what stopped
the last run and whose fault that was: in a work folder, the epoch could not be decided; in a sealed one, its weights
are not on the chain yet. A `waits.json` counts how often the epoch has waited for submissions that cannot be had.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TypeVar

from sn37.errors import ConfigError, EvaluatorFault, disk_faults
from sn37.files import write_text
from sn37.html import table
from sn37.records import codec
from sn37.records.decision import Decision, Publication
from sn37.records.faults import StageFault, Waits
from sn37.records.history import History
from sn37.records.index import indexed_history
from sn37.records.manifest import Manifest
from sn37.records.results import Result
from sn37.sample import Sample, from_record, to_record

__all__ = ["Epoch", "Records"]

Part = TypeVar("Part", Manifest, Decision, Publication, StageFault, Waits)

_WORK = ".work"
_FILES: dict[type, str] = {
    Manifest: "manifest.json",
    Decision: "decision.json",
    Publication: "published.json",
    StageFault: "fault.json",
    Waits: "waits.json",
}


@dataclass(frozen=True)
class Epoch:
    """One epoch's folder, sealed or still at work. Reads lazily; what a sealed epoch rests on is read once."""

    folder: Path
    """Where it lies."""

    def __repr__(self) -> str:
        state = "decided" if self.sealed else "at work"
        return f"epoch {self.sync_block} of competition {self.competition_id}, {state}, in {self.folder}"

    def _repr_html_(self) -> str:
        names = [task.name for task in self.manifest.competition.tasks] if self.sealed else []
        shown = f"{self.decision!r}{self.decision.leaderboard(names)}" if self.sealed else ""
        return f"<p>{escape(repr(self))}</p>{shown}"

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
    def manifest(self) -> Manifest:
        """All that is needed to repeat the epoch. Raises EvaluatorFault where it is missing."""
        return self._present(Manifest)

    @cached_property
    def decision(self) -> Decision:
        """Scores, reign and winner. Raises EvaluatorFault where they are missing."""
        return self._present(Decision)

    @cached_property
    def results(self) -> dict[str, Result]:
        """Each model's result on every sample, by hotkey."""
        files = sorted((self.folder / "results").glob("[!.]*.json"))
        found = {path.stem: codec.read(Result, path) for path in files}
        return {hotkey: result for hotkey, result in found.items() if result is not None}

    def result(self, hotkey: str) -> Result | None:
        """One model's result alone, None where there is none."""
        return codec.read(Result, self.folder / "results" / f"{hotkey}.json")

    @property
    def keeps_samples(self) -> bool:
        """Whether the samples are still there; they may be pruned once the epoch is old."""
        return (self.folder / "samples").is_dir()

    def samples(self, task: str) -> tuple[Sample, ...]:
        """The samples of a task; () where they are not kept. Raises EvaluatorFault where they cannot be read."""
        path = self.samples_file(task)
        try:
            return tuple(from_record(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise EvaluatorFault(f"the record {path} cannot be read: {error}; move it away to go on") from error

    def write_samples(self, task: str, samples: tuple[Sample, ...]) -> None:
        """Write the samples of a task, one JSON record a line."""
        lines = [json.dumps(to_record(sample), sort_keys=True, allow_nan=False) for sample in samples]
        write_text(self.samples_file(task), "\n".join(lines) + "\n")

    def samples_file(self, task: str) -> Path:
        """Where the samples of a task lie."""
        return self.folder / "samples" / f"{task}.jsonl"

    def write(self, part: Manifest | Decision | Publication | StageFault | Waits | Result) -> None:
        """Write one part of the epoch into its file."""
        codec.write(self.folder / _name_of(part), part)

    def read(self, kind: type[Part]) -> Part | None:
        """One part of the epoch as its file is now, None where it is missing."""
        return codec.read(kind, self.folder / _FILES[kind])

    def remove(self, part: type[StageFault] | type[Waits] | Result) -> None:
        """Remove one part of the epoch, where it is there."""
        path = self.folder / (_FILES[part] if isinstance(part, type) else _name_of(part))
        with disk_faults(path):
            path.unlink(missing_ok=True)

    def _present(self, kind: type[Part]) -> Part:
        found = self.read(kind)
        if found is None:
            raise EvaluatorFault(f"the record {self.folder} has no {_FILES[kind]}; move it away to go on")
        return found

    def seal(self) -> Epoch:
        """Rename the work folder into place; the epoch is decided from here on."""
        place = self.folder.with_name(self.folder.name.removesuffix(_WORK))
        with disk_faults(place):
            self.folder.rename(place)
        return Epoch(place)


def _name_of(part: object) -> str:
    return f"results/{part.hotkey}.json" if isinstance(part, Result) else _FILES[type(part)]


@dataclass(frozen=True)
class Records:
    """All epochs of one validator. Averages and histories are folds over them."""

    root: Path
    """The folder they lie in."""

    def __repr__(self) -> str:
        counts = [f"{len(self.sealed(each))} epochs of competition {each}" for each in self.competitions()]
        return f"records in {self.root}: {', '.join(counts) or 'none yet'}"

    def _repr_html_(self) -> str:
        rows = []
        for decided in filter(None, map(self.sealed, self.competitions())):
            newest, best = decided[-1], decided[-1].decision.best
            name = newest.manifest.competition.name
            who = f"uid {best.uid}" if best else None
            rows.append((newest.competition_id, name, len(decided), decided[0].sync_block, newest.sync_block, who))
        return table(("id", "competition", "epochs", "first", "newest", "its winner"), rows, f"records in {self.root}")

    def newest(self) -> Epoch | None:
        """The decided epoch of the newest sync block, there of the highest competition; None where there is none."""
        found = [epoch for each in self.competitions() for epoch in self.sealed(each)[-1:]]
        return max(found, key=lambda epoch: (epoch.sync_block, epoch.competition_id), default=None)

    def epoch(self, competition_id: int = 0, sync_block: int = 0) -> Epoch:
        """A decided epoch: of that competition (0: the one with the newest epoch), at that sync block (0: its newest).

        Raises ConfigError where there is none, naming the nearest.
        """
        last = self.newest()
        if last is None:
            raise ConfigError(f"there is no decided epoch in {self.root}; expected a validator's folder `records`")
        if competition_id:
            decided = self.sealed(competition_id)
            if not decided:
                known = ", ".join(str(each) for each in self.competitions() if self.sealed(each))
                raise ConfigError(f"{self.root} has no decided epoch of competition {competition_id}; expected {known}")
            last = decided[-1]
        if not sync_block:
            return last
        nearest = min(self.sealed(last.competition_id), key=lambda epoch: abs(epoch.sync_block - sync_block))
        if nearest.sync_block != sync_block:
            raise ConfigError(
                f"{self.root} has no decided epoch of competition {last.competition_id} at sync block {sync_block}; "
                f"the nearest is {nearest.sync_block}"
            )
        return nearest

    def begin(self, competition_id: int, sync_block: int) -> Epoch:
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
        folder = self.root / str(competition_id)
        return indexed_history(folder, lambda block: Epoch(folder / str(block)).decision, before, remembered)
