"""Reads a competition back from a record."""

from __future__ import annotations

from collections.abc import Mapping
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

__all__ = ["competition_of"]

_EPSILONS: Mapping[str, Any] = {"fixed": Fixed, "linear_decay": LinearDecay}
_NORMALIZATIONS: Mapping[str, Any] = {"none": Unnormalized, "inverse_exponential": InverseExponential}


def competition_of(data: Mapping[str, Any]) -> Competition:
    """The competition that its plain data stand for. Raises ValueError where they are not what was written."""
    try:
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
        return Competition(**{**data, **parts})
    except (KeyError, TypeError) as error:
        raise ValueError(f"no competition: {error!r}") from error


def _made(kinds: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
    values = dict(data)
    return kinds[values.pop("kind")](**values)
