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
            measured = _measurement(outcome, given[key])
            if isinstance(measured, Sn37Error) and needs_control(measured):
                known_good = control_run(executor, given[key], limits, control)
                measured = fault_of(measured, _measurement(known_good, given[key]))
            yield key, measured


def _measurement(outcome: Outcome, job: Job) -> Measurement | Sn37Error:
    """What a worker sent, checked, so that no score is a reason to stop later: a model may have got hold of it."""
    if isinstance(outcome, Sn37Error):
        return outcome
    try:
        measured = typed(Measurement, outcome, "a worker's measurement")
    except EvaluatorFault as error:
        return WorkerDied("garbage", str(error))
    expected = {task.name for task in job.tasks}
    if set(measured.tasks) != expected:
        return WorkerDied("garbage", f"tasks {sorted(measured.tasks)} were measured; expected {sorted(expected)}")
    for name, task in measured.tasks.items():
        if task.score < 0:
            return WorkerDied("garbage", f"the raw score of {name} is {task.score!r}; a loss is 0 or more")
    return measured


def _tokenize_once(executor: Executor, job: Job, limits: Limits, file: Path) -> None:
    """Fill the file with all rows; where that fails every model's own worker will say why."""
    found = dict(executor.run(f"{_JOB}:tokenize", [("rows", job.payload())], limits))["rows"]
    if isinstance(found, dict):
        file.write_text(json.dumps(found))
