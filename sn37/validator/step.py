"""One epoch as existing leaderboards read it: the step that a validator logs (protocol, section 9).

Knows nothing of wandb: see `sn37.validator.mirror`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sn37 import incentive
from sn37.competition import Competition
from sn37.submission import ModelId

if TYPE_CHECKING:
    from sn37.validator.decide import Decided

__all__ = ["Row", "TaskScore", "step", "step_of"]


@dataclass(frozen=True)
class TaskScore:
    """One task's score of one model; lower is better."""

    raw: float
    """The raw score."""
    norm: float
    """The normalized score."""
    weighted: float
    """The normalized score times the task's weight."""


@dataclass(frozen=True)
class Row:
    """One evaluated model."""

    uid: int
    """Its uid."""
    hotkey: str
    """Its hotkey."""
    block: int
    """The block of its commitment."""
    hf: str
    """Its hub repo."""
    average_loss: float | None
    """Its score, lower is better; None where it failed."""
    epsilon_adv: float
    """By which share of its loss it must be beaten."""
    win_rate: float
    """Wins / opponents, in [0, 1]."""
    win_total: int
    """How many of the others it beats."""
    weight: float
    """Its weight in the subnet, in [0, 1]."""
    norm_weight: float
    """Its weight in the competition, in [0, 1]."""
    tasks: Mapping[str, TaskScore]
    """Its score in each task; {} where it failed."""


def step(
    competition: Competition,
    sync_block: int,
    seed: int,
    timestamp: float,
    rows: Sequence[Row],
    *,
    load_model_s: Sequence[float] = (),
    compute_model_s: Sequence[float] = (),
    load_data_s: Sequence[float] = (),
) -> dict[str, object]:
    """What one epoch logs: maps from uid to a value, timings, and the whole step as JSON.

    timestamp: seconds since 1970, of the sync block; the timings: seconds of each model, or of each task's samples.
    """
    rows = sorted(rows, key=lambda row: row.uid)
    uid_data = {str(row.uid): _uid_data(row, competition) for row in rows}
    original = {
        "timestamp": timestamp,
        "competition_id": competition.id,
        "seed": seed,
        "sync_block": sync_block,
        "uids": [row.uid for row in rows],
        "uid_data": uid_data,
    }

    def of(name: str) -> dict[str, object]:
        return {uid: values[name] for uid, values in uid_data.items() if values.get(name) is not None}

    kinds = ("raw_score", "norm_score", "weighted_norm_score")
    return {
        "time": timestamp,
        "step_competition_id": competition.id,
        "block": sync_block,
        "uid_data": of("average_loss"),
        "uid_epsilon_adv": of("epsilon_adv"),
        "win_rate_data": of("win_rate"),
        "win_total_data": of("win_total"),
        "weight_data": of("weight"),
        "competition_weight_data": of("norm_weight"),
        "competition_id": of("competition_id"),
        "load_model_perf": _perf(load_model_s),
        "compute_model_perf": _perf(compute_model_s),
        "load_data_perf": _perf(load_data_s),
        **{f"{task.name}.{kind}": of(f"{task.name}.{kind}") for task in competition.tasks for kind in kinds},
        "original_format_json": json.dumps(original, allow_nan=False),
    }


def _uid_data(row: Row, competition: Competition) -> dict[str, object]:
    data = {name: value for name, value in asdict(row).items() if name not in ("tasks", "hotkey")}
    data["competition_id"] = competition.id
    for name, score in row.tasks.items():
        data[f"{name}.raw_score"] = score.raw
        data[f"{name}.norm_score"] = score.norm
        data[f"{name}.weighted_norm_score"] = score.weighted
    # JSON knows no infinity: a loss that is not finite is no loss.
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in data.items()}


def _perf(seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return dict.fromkeys(("min", "median", "max", "P90"))
    tenths = statistics.quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else [seconds[0]]
    return {"min": min(seconds), "median": statistics.median(seconds), "max": max(seconds), "P90": tenths[-1]}


def step_of(decided: Decided) -> dict[str, object]:
    """What a decided epoch logs."""
    manifest, decision = decided.epoch.manifest, decided.decision
    past = decided.plan.records.history(manifest.competition.id, before=manifest.sync_block + 1)
    figures = manifest.figures
    shares = incentive.competition_weights(past.average(figures.alpha), manifest.uids, past.winners, figures.min_share)
    ran = [result.measurement for result in decided.epoch.results.values() if result.measurement is not None]
    weight_of = {task.name: task.weight for task in manifest.competition.tasks}
    rows = [
        Row(
            uid=score.uid,
            hotkey=score.hotkey,
            block=score.block,
            hf=ModelId.from_text(score.text).repo,
            average_loss=score.score,
            epsilon_adv=score.epsilon,
            win_rate=decision.win_rate.get(score.hotkey, 0.0),
            win_total=decision.wins.get(score.hotkey, 0),
            weight=decided.weights.get(score.hotkey, 0.0),
            norm_weight=shares.get(score.hotkey, 0.0),
            tasks={
                name: TaskScore(raw, score.normalized[name], weight_of[name] * score.normalized[name])
                for name, raw in score.raw.items()
            },
        )
        for score in decision.scores
    ]
    return step(
        manifest.competition,
        manifest.sync_block,
        manifest.seed,
        manifest.as_of.timestamp(),
        rows,
        load_model_s=[measurement.load_s for measurement in ran],
        compute_model_s=[sum(task.seconds for task in measurement.tasks.values()) for measurement in ran],
        load_data_s=[data.seconds for data in manifest.data.values()],
    )
