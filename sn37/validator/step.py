"""One epoch as existing leaderboards read it: the step that a validator logs (protocol, section 9).

Knows nothing of wandb: see `sn37.validator.mirror`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sn37 import incentive
from sn37.competition import Competition
from sn37.submission import ModelId

if TYPE_CHECKING:
    from sn37.validator.decide import Decision
    from sn37.validator.plan import Plan

__all__ = ["Row", "step", "step_of"]


@dataclass(frozen=True)
class Row:
    """One evaluated model. average_loss: its score, None where it failed (lower is better); weight: of the
    subnet; norm_weight: of the competition; tasks: name -> {"raw", "norm", "weighted"}."""

    uid: int
    hotkey: str
    block: int
    hf: str
    average_loss: float | None
    epsilon_adv: float
    win_rate: float
    win_total: int
    weight: float
    norm_weight: float
    tasks: Mapping[str, Mapping[str, float]]


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
) -> dict[str, Any]:
    """What one epoch logs: maps from uid to a value, timings, and the whole step as JSON.

    timestamp: seconds since 1970, of the sync block; the timings: seconds of each model, or of each task's samples.
    """
    rows = sorted(rows, key=lambda row: row.uid)
    original = {
        "timestamp": timestamp,
        "competition_id": competition.id,
        "seed": seed,
        "sync_block": sync_block,
        "uids": [row.uid for row in rows],
        "uid_data": {str(row.uid): _uid_data(row, competition) for row in rows},
    }

    def of(name: str) -> dict[str, Any]:
        data: Mapping[str, Mapping[str, Any]] = original["uid_data"]  # type: ignore[assignment]
        return {uid: values[name] for uid, values in data.items() if values.get(name) is not None}

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


def _uid_data(row: Row, competition: Competition) -> dict[str, Any]:
    data = {name: value for name, value in asdict(row).items() if name not in ("tasks", "hotkey")}
    data["competition_id"] = competition.id
    for name, scores in row.tasks.items():
        data[f"{name}.raw_score"] = scores["raw"]
        data[f"{name}.norm_score"] = scores["norm"]
        data[f"{name}.weighted_norm_score"] = scores["weighted"]
    # JSON knows no infinity: a loss that is not finite is no loss.
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in data.items()}


def _perf(seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return dict.fromkeys(("min", "median", "max", "P90"))
    tenths = statistics.quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else [seconds[0]]
    return {"min": min(seconds), "median": statistics.median(seconds), "max": max(seconds), "P90": tenths[-1]}


def step_of(plan: Plan, decision: Decision) -> dict[str, Any]:
    """What a decided epoch logs."""
    competition, figures = decision.competition, plan.settings.figures
    past = plan.records.history(competition.id)
    shares = incentive.competition_weights(past.average(figures.alpha), plan.uids, past.winners, figures.min_share)
    results = decision.epoch.results
    ran = [result for result in results.values() if result["fault"] is None]
    weight_of = {task.name: task.weight for task in competition.tasks}
    return step(
        competition,
        plan.sync_block,
        plan.seed,
        plan.as_of.timestamp(),
        [_row(entry, decision, shares, weight_of) for entry in decision.scores],
        load_model_s=[result["load_s"] for result in ran],
        compute_model_s=[sum(task["seconds"] for task in result["tasks"].values()) for result in ran],
        load_data_s=list(decision.epoch.manifest["data_s"].values()),
    )


def _row(
    entry: Mapping[str, Any], decision: Decision, shares: Mapping[str, float], weight_of: Mapping[str, float]
) -> Row:
    hotkey, norm = entry["hotkey"], entry["normalized"]
    return Row(
        uid=entry["uid"],
        hotkey=hotkey,
        block=entry["block"],
        hf=ModelId.from_text(entry["text"]).repo,
        average_loss=entry["score"],
        epsilon_adv=entry["epsilon"],
        win_rate=decision.win_rate.get(hotkey, 0.0),
        win_total=decision.epoch.decision["wins"].get(hotkey, 0),
        weight=decision.weights.get(hotkey, 0.0),
        norm_weight=shares.get(hotkey, 0.0),
        tasks={
            name: {"raw": raw, "norm": norm[name], "weighted": weight_of[name] * norm[name]}
            for name, raw in entry["raw"].items()
        },
    )
