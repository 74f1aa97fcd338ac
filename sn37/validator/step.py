"""One epoch as existing leaderboards read it: the step that a validator logs (protocol, section 9).

A pure function of records. Knows nothing of wandb: see `sn37.validator.mirror`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from sn37.competition import Competition
from sn37.records.decision import Decision, Score
from sn37.records.manifest import Manifest
from sn37.records.results import Result
from sn37.submission import ModelId

__all__ = ["step_of"]


def step_of(
    manifest: Manifest,
    decision: Decision,
    results: Iterable[Result],
    weights: Mapping[str, float],
    competition_weights: Mapping[str, float],
) -> dict[str, object]:
    """What one epoch logs: maps from uid to a value, timings, and the whole step as JSON.

    weights, competition_weights: after the epoch, of the subnet and of the competition alone, by hotkey.
    """
    competition, timestamp = manifest.competition, manifest.as_of.timestamp()
    scores = sorted(decision.scores, key=lambda score: score.uid)
    uid_data = {
        str(score.uid): {
            **_score_data(score, competition),
            "win_rate": decision.win_rate.get(score.hotkey, 0.0),
            "win_total": decision.wins.get(score.hotkey, 0),
            "weight": weights.get(score.hotkey, 0.0),
            "norm_weight": competition_weights.get(score.hotkey, 0.0),
        }
        for score in scores
    }
    original = {
        "timestamp": timestamp,
        "competition_id": competition.id,
        "seed": manifest.seed,
        "sync_block": manifest.sync_block,
        "uids": [score.uid for score in scores],
        "uid_data": uid_data,
    }

    def of(name: str) -> dict[str, object]:
        return {uid: values[name] for uid, values in uid_data.items() if values.get(name) is not None}

    kinds = ("raw_score", "norm_score", "weighted_norm_score")
    ran = [result.measurement for result in results if result.measurement is not None]
    return {
        "time": timestamp,
        "step_competition_id": competition.id,
        "block": manifest.sync_block,
        "uid_data": of("average_loss"),
        "uid_epsilon_adv": of("epsilon_adv"),
        "win_rate_data": of("win_rate"),
        "win_total_data": of("win_total"),
        "weight_data": of("weight"),
        "competition_weight_data": of("norm_weight"),
        "competition_id": of("competition_id"),
        "load_model_perf": _perf([measurement.load_s for measurement in ran]),
        "compute_model_perf": _perf([sum(task.seconds for task in made.tasks.values()) for made in ran]),
        "load_data_perf": _perf([data.seconds for data in manifest.data.values()]),
        **{f"{task.name}.{kind}": of(f"{task.name}.{kind}") for task in competition.tasks for kind in kinds},
        "original_format_json": json.dumps(original, allow_nan=False),
    }


def _score_data(score: Score, competition: Competition) -> dict[str, object]:
    """What one submission's score tells, under the names that leaderboards know."""
    data: dict[str, object] = {
        "uid": score.uid,
        "block": score.block,
        "hf": ModelId.from_text(score.text).repo,
        "competition_id": competition.id,
        # JSON knows no infinity: a loss that is not finite is no loss.
        "average_loss": score.score if score.score is not None and math.isfinite(score.score) else None,
        "epsilon_adv": score.epsilon,
    }
    for task in competition.tasks:
        if task.name in score.raw:
            normalized = score.normalized[task.name]
            data[f"{task.name}.raw_score"] = score.raw[task.name]
            data[f"{task.name}.norm_score"] = normalized
            data[f"{task.name}.weighted_norm_score"] = task.weight * normalized
    return data


def _perf(seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return dict.fromkeys(("min", "median", "max", "P90"))
    tenths = statistics.quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else [seconds[0]]
    return {"min": min(seconds), "median": statistics.median(seconds), "max": max(seconds), "P90": tenths[-1]}
