"""The evaluation of many models, each in a worker, seen from outside.

`evaluate_all` runs `sn37.evaluation.job` over many models and turns every outcome into a result or an error with an
owner; where a worker died, a control run (`sn37.evaluation.control`) decides whose fault it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sn37.engine.architectures import modules
from sn37.evaluation.control import control_run, fault_of
from sn37.scratch import ScratchFolder
from sn37.workers.executors import Executor, Limits, OnProgress, Outcome
from sn37.workers.isolation import WorkerDied

__all__ = ["FUNCTION", "evaluate_all", "preloaded"]

_JOB = "sn37.evaluation.job"
FUNCTION = f"{_JOB}:evaluate"


def preloaded(architectures: Iterable[str] = ()) -> tuple[str, ...]:
    """The modules a worker needs, for an executor to import once."""
    return ("torch", "transformers.models.auto.tokenization_auto", _JOB, *modules(architectures))


def evaluate_all(
    executor: Executor,
    payloads: Iterable[tuple[str, Mapping[str, Any]]],
    limits: Limits,
    *,
    control: Path,
    tokenizer: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[str, Outcome]]:
    """(key, result or error) for each model, in the order they finish; `payloads` is read lazily.

    All payloads have the same tasks and samples. control: folder for known-good small models, one of which is asked
    when a worker died; tokenizer: the competition's, with which samples are tokenized once. Errors have an owner: only
    ModelFault costs a miner anything.
    """
    given: dict[str, Mapping[str, Any]] = {}
    with ScratchFolder() as folder:
        rows = folder / "rows.json"

        def remembered() -> Iterator[tuple[str, Mapping[str, Any]]]:
            for key, payload in payloads:
                if not given and tokenizer is not None:
                    _tokenize_once(executor, payload, limits, rows)
                given[key] = {**payload, "rows": str(rows)} if rows.exists() else payload
                yield key, given[key]

        for key, outcome in executor.run(FUNCTION, remembered(), limits, on_progress):
            if isinstance(outcome, WorkerDied):
                yield key, fault_of(outcome, partial(control_run, executor, given[key], limits, control))
            else:
                yield key, outcome


def _tokenize_once(executor: Executor, payload: Mapping[str, Any], limits: Limits, file: Path) -> None:
    """Fill the file with all rows; where that fails every model's own worker will say why."""
    found = dict(executor.run(f"{_JOB}:tokenize", [("rows", payload)], limits))["rows"]
    if isinstance(found, dict):
        file.write_text(json.dumps(found))
