"""Keeps a validator's folder within the limits of `Settings.keep`: what is old goes, what the protocol rests on stays.

For good stay manifests, results, decisions and publications: folds, frames and explanations read nothing else. What may
go, by age and then by size, the oldest first: executed notebooks and reports, the samples of decided epochs, wandb's
finished runs with their steps, and whatever was never decided. Age is counted in blocks behind the newest decided
epoch, so that a stopped clock or a long outage removes nothing. Each item is renamed before it is removed: a kill
leaves it whole or gone. The caches of models and datasets keep their own limits.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from sn37.clock import BLOCKS_PER_DAY, SECONDS_PER_BLOCK
from sn37.errors import disk_faults
from sn37.files import size_bytes
from sn37.records.decision import Publication
from sn37.records.epochs import Epoch, Records
from sn37.validator.settings import Settings
from sn37.validator.wandb_mirror import EPOCHS_PER_RUN

__all__ = ["prune"]

_GOING = ".pruned"
_EXECUTED = re.compile(r"-([0-9]+)\.(ipynb|html)")
_RUN_TIME = "offline-run-%Y%m%d_%H%M%S"


@dataclass(frozen=True)
class _Item:
    """One file or folder that may go."""

    block: int
    """The block it is of."""
    path: Path
    """Where it lies."""
    days: int
    """How long it stays."""


def prune(settings: Settings, executed: Sequence[Path] = ()) -> str:
    """Remove what is beyond the limits; says in a sentence what went, "" where nothing did.

    executed: folders of executed notebooks that no record has taken. Raises EvaluatorFault where the disk refuses.
    """
    records, keep = Records(settings.root / "records"), settings.keep
    _finish(settings.root, executed)
    last = records.newest()
    if last is None:
        return ""
    now = last.sync_block
    found = [item for item in _items(settings, records, last, executed) if item.path.exists()]
    count = gone_bytes = kept_bytes = 0
    # From the newest to the oldest: what does not fit any more goes, and everything behind it.
    for item in sorted(found, key=lambda item: (-item.block, item.path)):
        size = size_bytes(item.path)
        old = now - item.block > item.days * BLOCKS_PER_DAY
        kept_bytes += 0 if old else size
        if old or kept_bytes > keep.max_bytes:
            _remove(item.path)
            count, gone_bytes = count + 1, gone_bytes + size
    return f"pruned {count} item{'s' * (count != 1)}, {gone_bytes / 1e6:,.1f} MB" if count else ""


def _items(settings: Settings, records: Records, newest: Epoch, executed: Sequence[Path]) -> Iterator[_Item]:
    """Everything that may go, but for the newest epochs'."""
    keep = settings.keep
    recent = newest.sync_block - keep.epochs * settings.clock.cadence
    for id in records.competitions():
        for epoch in records.sealed(id)[: -keep.epochs]:
            for name in ("epoch.ipynb", "report.html"):
                yield _Item(epoch.sync_block, epoch.folder / name, keep.notebooks_days)
            yield _Item(epoch.sync_block, epoch.folder / "samples", keep.samples_days)
    others = [_Item(epoch.sync_block, epoch.folder, keep.undecided_days) for epoch in records.open()]
    for path in (path for folder in executed for path in folder.glob("*-*.*")):
        if match := _EXECUTED.search(path.name):
            others.append(_Item(int(match[1]), path, keep.notebooks_days))
    others += [*_steps(settings, records), *_runs(settings, newest)]
    yield from (item for item in others if item.block < recent)


def _steps(settings: Settings, records: Records) -> Iterator[_Item]:
    """The steps of finished wandb runs that are all logged: such a run is never written again."""
    steps = [(path.name.split("."), path) for path in sorted((settings.root / "wandb" / "steps").glob("[0-9]*.json"))]
    runs = [list(group) for _, group in groupby(steps, lambda step: int(step[0][0]) // EPOCHS_PER_RUN)]
    for run in runs[:-1]:
        if all(_is_logged(records, competition_id, block) for (_, competition_id, block, _), _ in run):
            yield from (_Item(int(name[2]), path, settings.keep.runs_days) for name, path in run)


def _is_logged(records: Records, competition_id: str, sync_block: str) -> bool:
    published = Epoch(records.root / competition_id / sync_block).read(Publication)
    return published is None or bool(published.run)


def _runs(settings: Settings, newest: Epoch) -> Iterator[_Item]:
    """wandb's offline runs but the last, which is still written."""
    for folder in sorted((settings.root / "wandb").glob("offline-run-*"))[:-1]:
        began = datetime.strptime(folder.name.rpartition("-")[0], _RUN_TIME).replace(tzinfo=UTC)
        blocks = (newest.manifest.as_of - began).total_seconds() // SECONDS_PER_BLOCK
        yield _Item(newest.sync_block - int(blocks), folder, settings.keep.runs_days)


def _remove(path: Path) -> None:
    with disk_faults(path):
        _delete(path.rename(path.with_name(f"{path.name}{_GOING}")))


def _finish(root: Path, executed: Sequence[Path]) -> None:
    """Delete what an earlier pruning was killed over. Looks nowhere else: models may have files of any name."""
    records, pattern = root / "records", f"*{_GOING}"
    begun = [*records.glob(f"*/{pattern}"), *records.glob(f"*/*/{pattern}"), *(root / "wandb").rglob(pattern)]
    for path in (*begun, *(path for folder in executed for path in folder.glob(pattern))):
        with disk_faults(path):
            _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
