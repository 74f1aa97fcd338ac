"""Records made by hand: what an epoch would have left, with only the fields named that a test is about."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sn37.clock import Clock
from sn37.competition import Competition
from sn37.protocol import Figures, SelectionLimits
from sn37.records.decision import Decision, Score
from sn37.records.epochs import Epoch, Records
from sn37.records.faults import Fault
from sn37.records.history import History, Key, Tried, Win
from sn37.records.manifest import Manifest, TaskData
from sn37.records.results import Basis, Measurement, Result, TaskResult

BROKEN = Fault("model", "broken")


def score(uid: int, loss: float | None, **fields: Any) -> Score:
    """A submission's score; None for one that failed by its own fault."""
    values = {"hotkey": f"hot{uid}", "uid": uid, "block": uid, "text": f"text {uid}", "score": loss, "epsilon": 0.01}
    lost = {"fault": None if loss is not None else BROKEN, "raw": {}, "normalized": {}}
    return Score(**{**values, **lost, **fields})


def decision(sync_block: int, *scores: Score, winner: str | None = None, **fields: Any) -> Decision:
    """A decision with these scores; nobody beats anybody."""
    values = {"reign": (), "wins": {}, "win_rate": {}, "beats": {}}
    return Decision(sync_block=sync_block, scores=scores, winner=winner, **{**values, **fields})


def seal(records: Records, competition_id: int, made: Decision) -> Epoch:
    """An epoch with nothing but a decision, sealed."""
    epoch = records.begin(competition_id, made.sync_block)
    epoch.write(made)
    return epoch.seal()


def folded(decisions: Iterable[Decision], remembered: int = 3) -> History:
    """The history that these decisions make, in their order: the plain fold."""
    wins: list[Win] = []
    tried: dict[Key, tuple[Tried, ...]] = {}
    for made in decisions:
        for each in made.scores:
            key, loss = (each.hotkey, each.text), math.inf if each.score is None else each.score
            tried[key] = (*tried.get(key, ()), Tried(made.sync_block, loss))[-remembered:]
        if made.best is not None:
            wins.append(Win(made.sync_block, made.best.hotkey, made.best.text, made.best.uid))
    return History(tuple(wins), tried)


def task_result(value: float, **fields: Any) -> TaskResult:
    """A task's outcome of one sample."""
    values = {"values": (value,), "details": ({},), "note": "", "samples": (), "seconds": 1.0, "tokens": 10}
    return TaskResult(**{"score": value, **values, **fields})


def measurement(tasks: dict[str, TaskResult], **fields: Any) -> Measurement:
    """What a worker measured."""
    values = {"parameters": 1, "device": "cpu", "dtype": "float32", "engine": "fast", "plan": {}, "load_s": 1.0}
    return Measurement(**{"tasks": tasks, **values, "memory_bytes": 0, **fields})


def result(uid: int, block: int, tasks: dict[str, TaskResult] | None = None, fault: Fault | None = None) -> Result:
    """A submission's result: measured, or at fault."""
    found = None if fault else measurement(tasks or {})
    return Result(f"hot{uid}", uid, block, "t", basis=Basis("", {}, {}), fault=fault, measurement=found)


def manifest(competition: Competition, sync_block: int = 360, **fields: Any) -> Manifest:
    """The plan of an epoch without submissions."""
    values = {
        "competition": competition,
        "competition_digest": competition.digest,
        "shares": {competition.id: 1.0},
        "network": "local",
        "netuid": 37,
        "hub": None,
        "own_tasks": {},
        "clock": Clock(),
        "sync_block": sync_block,
        "block_hash": "0x" + "ab" * 32,
        "as_of": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "figures": Figures(),
        "limits": SelectionLimits(),
        "uids": {},
        "submissions": (),
    }
    return Manifest(**{**values, **fields})


def task_data(**fields: Any) -> TaskData:
    """Where a task's samples came from."""
    values = {"digest": "d", "samples": 1, "dropped": {}, "notes": {}, "revisions": {}, "seconds": 0.5}
    return TaskData(**{**values, **fields})
