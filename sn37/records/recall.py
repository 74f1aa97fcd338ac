"""Reads back from an epoch's manifest what was planned, so that an epoch stays what it was.

A restart takes part with whom the first start took part, and a decided epoch is shown and published as decided,
also after the competition's file was changed or the node has forgotten the state of the sync block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sn37.competition import (
    Competition,
    Constraints,
    EvalTask,
    Evaluation,
    Fixed,
    InverseExponential,
    LinearDecay,
    Unnormalized,
)
from sn37.errors import EvaluatorFault
from sn37.submission import Submission

__all__ = ["Pick", "competition_of", "picks_of"]

_EPSILONS: Mapping[str, Any] = {"fixed": Fixed, "linear_decay": LinearDecay}
_NORMALIZATIONS: Mapping[str, Any] = {"none": Unnormalized, "inverse_exponential": InverseExponential}


@dataclass(frozen=True)
class Pick:
    """What becomes of one submission in this epoch. why: the reason, for people; evaluate: whether it is run."""

    submission: Submission
    evaluate: bool
    why: str


def competition_of(manifest: Mapping[str, Any]) -> Competition:
    """The competition as the epoch ran it. Raises EvaluatorFault where the record is not what was written."""
    try:
        data = manifest["competition"]
        tasks = tuple(
            EvalTask(**{**task, "normalization": _made(_NORMALIZATIONS, task["normalization"])})
            for task in data["tasks"]
        )
        constraints = {**data["constraints"], "architectures": tuple(data["constraints"]["architectures"])}
        parts = {
            "constraints": Constraints(**constraints),
            "epsilon": _made(_EPSILONS, data["epsilon"]),
            "evaluation": Evaluation(**data["evaluation"]),
            "tasks": tasks,
        }
        competition = Competition(**{**data, **parts})
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluatorFault(f"the competition in a manifest cannot be read: {error}; move the record away") from error
    if competition.digest != manifest["competition_digest"]:
        raise EvaluatorFault("the competition in a manifest was changed after the epoch; move the record away")
    return competition


def picks_of(manifest: Mapping[str, Any]) -> tuple[Pick, ...]:
    """What became of each submission."""
    found = []
    for entry in manifest["submissions"]:
        submission = Submission.read(*(entry[name] for name in ("hotkey", "uid", "block", "text")))
        found.append(Pick(submission, entry["evaluate"], entry["why"]))
    return tuple(found)


def _made(kinds: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
    values = dict(data)
    return kinds[values.pop("kind")](**values)
