"""Evaluate one model: the program that runs in the worker.

`evaluate` is called in an isolated process (`sn37.workers.isolation`) and is the only code that ever touches a
model's weights and tokenizer. `sn37.evaluation.run` calls it for many models.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from sn37.competition import Competition, Constraints, Evaluation
from sn37.engine.interface import Engine
from sn37.errors import ConfigError, EvaluatorFault, ModelFault
from sn37.evaluation.sketch import sketch_of
from sn37.methods import METHODS, Row, Tokenizer, TokenizerFault, method, rows_of
from sn37.records.codec import Plain, to_data, typed
from sn37.records.results import MAX_REPLY_CHARACTERS, Measurement, TaskResult
from sn37.sample import Sample, from_record, to_record

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sn37.engine.fast import FastEngine
    from sn37.engine.reference import ReferenceEngine

__all__ = ["Job", "Task", "engine_of", "evaluate", "load", "measure", "prepare", "tokenize"]

Report = Callable[[dict[str, object]], None]
_REPORT_EVERY_S = 0.2


def _read_samples(data: object) -> tuple[Sample, ...] | Path:
    if isinstance(data, list):
        return tuple(from_record(record) for record in data)
    return Path(str(data))


def _written_samples(samples: Sequence[Sample] | Path) -> object:
    return str(samples) if isinstance(samples, Path) else [to_record(sample) for sample in samples]


@dataclass(frozen=True)
class Task:
    """One evaluation task of a job."""

    name: str
    """Its name."""
    method: str
    """How an answer becomes a number."""
    method_args: Mapping[str, object]
    """The method's arguments."""
    samples: Annotated[Sequence[Sample] | Path, Plain(_read_samples, _written_samples)]
    """Its samples, or a file of them, one JSON record a line."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to know to evaluate one model; it travels as JSON data."""

    model: Path
    """The model's folder."""
    tokenizer: Path | None
    """The folder of the competition's tokenizer; None where each model brings its own."""
    constraints: Constraints
    """What the model must be."""
    evaluation: Evaluation
    """How it is run."""
    tasks: tuple[Task, ...]
    """What it is asked."""
    own_tasks: tuple[str, ...] = ()
    """The validator's own files and entry points with methods."""
    cells: Path | None = None
    """A file of methods that a notebook's cells define, pickled by the process that started this one; None for none."""
    engine: str = "fast"
    """`fast` or `reference`."""
    rows: Path | None = None
    """A file that `tokenize` has filled."""
    dtype: str = ""
    """What to compute in; "" for the competition's."""
    device: str = "cpu"
    """`cpu` or `cuda`; an executor says it."""
    threads: int = 0
    """Threads to compute with, 0 for torch's choice; an executor says it."""

    @classmethod
    def of(
        cls,
        competition: Competition,
        model: Path,
        samples: Mapping[str, Sequence[Sample] | Path],
        tokenizer: Path | None,
        own_tasks: Sequence[str] = (),
        engine: str = "fast",
    ) -> Job:
        """The job of a competition's tasks. samples: by task, or a file of them each."""
        tasks = tuple(Task(t.name, t.method, t.method_args, samples[t.name]) for t in competition.tasks)
        given = competition.constraints, competition.evaluation
        return cls(model, tokenizer, *given, tasks, tuple(own_tasks), engine=engine)

    def payload(self) -> dict[str, object]:
        """The job as JSON data."""
        return to_data(self)


def evaluate(payload: Mapping[str, object], report: Report | None = None) -> dict[str, object]:
    """Inspect the model, run every task on it, and say what came out; in a worker process.

    payload: a `Job` as JSON data. Returns a `Measurement` as JSON data. Raises ModelFault with the reason.
    """
    return to_data(measure(typed(Job, payload, "a job"), report))


def measure(job: Job, report: Report | None = None) -> Measurement:
    """Inspect the model and run every task on it. Raises ModelFault with the reason."""
    import torch

    report = report or (lambda message: None)
    prepare(job)
    report({"stage": "load"})
    began = time.perf_counter()
    tokenizer, model = load(job)
    sketch = sketch_of(model)
    load_s = time.perf_counter() - began
    engine = engine_of(job.engine, model, job.constraints, job.evaluation)
    rows = TypeAdapter(dict[str, tuple[Row, ...]]).validate_json(job.rows.read_bytes()) if job.rows else {}
    with _owned(job):
        run = partial(_run_task, job, tokenizer=tokenizer, engine=engine, report=report)
        tasks = {task.name: run(task, rows=rows.get(task.name)) for task in job.tasks}
    return Measurement(
        tasks=tasks,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        device=torch.cuda.get_device_name() if job.device == "cuda" else "cpu",
        dtype=job.dtype or job.constraints.dtype,
        engine=job.engine,
        plan=engine.plan(),
        load_s=load_s,
        memory_bytes=_peak_bytes(job.device),
        sketch=sketch,
    )


def tokenize(payload: Mapping[str, object], report: Report | None = None) -> dict[str, object]:
    """The rows of every task, made once for all models with the competition's tokenizer: {task: [row, ...]}.

    Raises EvaluatorFault where the tokenizer fails.
    """
    job = typed(Job, payload, "a job")
    prepare(job)
    assert job.tokenizer is not None, "models that bring their own tokenizer have no rows in common"
    tokenizer = _for_methods(_competition_tokenizer(job.tokenizer))
    found: dict[str, tuple[Row, ...]] = {}
    with _owned(job):
        for task in job.tasks:
            made = METHODS[task.method](**task.method_args)
            length = job.constraints.sequence_length
            found[task.name] = rows_of(made, _samples(task), tokenizer, length, own_tokenizer=False)
    return {name: to_jsonable_python(rows) for name, rows in found.items()}


def prepare(job: Job) -> None:
    """What must be set before anything is computed."""
    import torch

    if job.threads:
        torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    if job.own_tasks:
        from sn37.competitions import load_tasks

        load_tasks(job.own_tasks)
    if job.cells is not None:
        import pickle

        # Never a stranger's: only `sn37.evaluation.local`, for the person at the notebook, writes such a file.
        for name, defined in pickle.loads(job.cells.read_bytes()).items():  # noqa: S301
            if name not in METHODS:
                method(name)(defined)


@contextlib.contextmanager
def _owned(job: Job) -> Iterator[None]:
    """A tokenizer that fails is the fault of whose it is."""
    try:
        yield
    except TokenizerFault as error:
        if job.tokenizer is None:
            raise ModelFault(str(error)) from error
        raise EvaluatorFault(f"the competition's tokenizer: {error}") from error


def load(job: Job) -> tuple[Tokenizer, PreTrainedModel]:
    """The tokenizer and the inspected model, the model first, as the protocol orders its checks."""
    from sn37.checks.tokenizer import load_tokenizer
    from sn37.checks.weights import check_vocabulary, inspect

    model = inspect(job.model, job.constraints, job.device, job.dtype or job.constraints.dtype)
    given = job.tokenizer
    tokenizer = load_tokenizer(job.model) if given is None else _competition_tokenizer(given)
    check_vocabulary(model, tokenizer)
    return _for_methods(tokenizer), model


def _competition_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from sn37.checks.tokenizer import load_tokenizer

    try:
        return load_tokenizer(folder)
    except ModelFault as error:
        raise EvaluatorFault(f"the competition's tokenizer cannot be loaded: {error}") from error


def _for_methods(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """What a method sees of it: `decode` as of one sequence; of many, which no method asks for, it gives a list."""
    return cast(Tokenizer, tokenizer)


def engine_of(
    name: str, model: PreTrainedModel, constraints: Constraints, evaluation: Evaluation
) -> FastEngine | ReferenceEngine:
    """The engine called `name` over a loaded model."""
    if name == "reference":
        from sn37.engine.reference import ReferenceEngine

        return ReferenceEngine(model, constraints.sequence_length)
    if name == "fast":
        from sn37.engine.fast import FastEngine

        return FastEngine(model, constraints.sequence_length, evaluation.batch_tokens)
    raise ConfigError(f"unknown engine {name!r}; expected 'fast' or 'reference'")


def _run_task(
    job: Job, task: Task, tokenizer: Tokenizer, engine: Engine, report: Report, rows: tuple[Row, ...] | None
) -> TaskResult:
    """One task's raw score and what it came from. rows: where `tokenize` has made them."""
    samples = _samples(task)
    made = METHODS[task.method](**task.method_args)
    done = {"rows": 0, "tokens": 0}
    began = reported = time.perf_counter()

    def say(**more: object) -> None:
        seconds = time.perf_counter() - began
        report({"stage": "task", "task": task.name, "samples": len(samples), "seconds": seconds, **done, **more})

    def progress(rows: int, tokens: int) -> None:
        nonlocal reported
        done["rows"] += rows
        done["tokens"] += tokens
        if time.perf_counter() - reported > _REPORT_EVERY_S:
            reported = time.perf_counter()
            say()

    say()
    if rows is None:
        own = job.tokenizer is None
        rows = rows_of(made, samples, tokenizer, engine.sequence_length, own_tokenizer=own)
    result = made.score(rows, samples, tokenizer, engine, progress)
    if not all(math.isfinite(value) for value in (result.score, *result.values)):
        raise ModelFault(f"{task.name}: the raw score is not finite")
    if result.score < 0:
        raise EvaluatorFault(
            f"{task.name}: the raw score is {result.score!r}; a loss is 0 or more: correct the method {task.method}"
        )
    say(done=True)
    return TaskResult(
        score=result.score,
        values=result.values,
        details=tuple(_shortened(detail) for detail in result.details),
        note=result.note,
        samples=result.samples,
        seconds=time.perf_counter() - began,
        tokens=done["tokens"],
    )


def _shortened(detail: Mapping[str, object]) -> Mapping[str, object]:
    """A detail whose texts are as long as a record keeps them."""
    return {name: _short(value) for name, value in detail.items()}


def _short(value: object) -> object:
    if isinstance(value, str):
        return value[:MAX_REPLY_CHARACTERS]
    return [_short(item) for item in value] if isinstance(value, list | tuple) else value


def _samples(task: Task) -> Sequence[Sample]:
    if not isinstance(task.samples, Path):
        return task.samples
    with task.samples.open(encoding="utf-8") as lines:
        return [from_record(json.loads(line)) for line in lines if line.strip()]


def _peak_bytes(device: str) -> int:
    """The most memory this process has held: of the GPU's where it ran on one."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
