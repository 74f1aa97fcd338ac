"""The evaluation of many models, each in a worker, seen from outside.

`evaluate_all` runs `sn37.evaluation.job` over many models and turns every outcome into a result or an error with an
owner; where a worker died, a control run (`sn37.evaluation.control`) decides whose fault it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from sn37.engine.architectures import modules
from sn37.errors import EvaluatorFault, Sn37Error
from sn37.evaluation.control import control_run, fault_of, needs_control
from sn37.evaluation.job import Job
from sn37.records.codec import typed
from sn37.records.results import Measurement
from sn37.scratch import ScratchFolder
from sn37.workers.executors import Executor, Limits, OnProgress, Outcome
from sn37.workers.isolation import WorkerDied

__all__ = ["FUNCTION", "evaluate_all", "preloaded"]

_JOB = "sn37.evaluation.job"
FUNCTION = f"{_JOB}:evaluate"


def preloaded(architectures: Iterable[str] = ()) -> tuple[str, ...]:
    """The modules a worker needs, for an executor to import once."""
    return ("torch", "pydantic", "transformers.models.auto.tokenization_auto", _JOB, *modules(architectures))


def evaluate_all(
    executor: Executor,
    jobs: Iterable[tuple[str, Job]],
    limits: Limits,
    *,
    control: Path,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[str, Measurement | Sn37Error]]:
    """(key, measurement or error) for each model, in the order they finish; `jobs` is read lazily.

    All jobs have the same tasks, samples and tokenizer; where the competition fixes that, samples are tokenized once.
    control: folder for known-good small models, one of which is asked when a worker died. Errors have an owner: only
    ModelFault costs a miner anything.
    """
    given: dict[str, Job] = {}
    with ScratchFolder() as folder:
        rows = folder / "rows.json"

        def payloads() -> Iterator[tuple[str, Mapping[str, object]]]:
            for key, job in jobs:
                if not given and job.tokenizer is not None:
                    _tokenize_once(executor, job, limits, rows)
                given[key] = replace(job, rows=rows) if rows.exists() else job
                yield key, given[key].payload()

        for key, outcome in executor.run(FUNCTION, payloads(), limits, on_progress):
            measured = _measurement(outcome)
            if isinstance(measured, Sn37Error) and needs_control(measured):
                measured = fault_of(measured, control_run(executor, given[key], limits, control))
            yield key, measured


def _measurement(outcome: Outcome) -> Measurement | Sn37Error:
    """What a worker sent, checked: a model may have got hold of its worker."""
    if isinstance(outcome, Sn37Error):
        return outcome
    try:
        return typed(Measurement, outcome, "a worker's measurement")
    except EvaluatorFault as error:
        return WorkerDied("garbage", str(error))


def _tokenize_once(executor: Executor, job: Job, limits: Limits, file: Path) -> None:
    """Fill the file with all rows; where that fails every model's own worker will say why."""
    found = dict(executor.run(f"{_JOB}:tokenize", [("rows", job.payload())], limits))["rows"]
    if isinstance(found, dict):
        file.write_text(json.dumps(found))
