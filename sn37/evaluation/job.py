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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sn37.competition import Competition, Constraints, Evaluation
from sn37.errors import ConfigError, EvaluatorFault, ModelFault
from sn37.methods import METHODS, Row, TokenizerFault
from sn37.sample import Sample, from_record, to_record

__all__ = ["engine_of", "evaluate", "payload_of", "tokenize"]

Report = Callable[[dict[str, Any]], None]


def payload_of(
    competition: Competition,
    model: Path,
    samples: Mapping[str, Sequence[Sample] | Path],
    *,
    tokenizer: Path | None,
    own_tasks: Sequence[str] = (),
    engine: str = "fast",
) -> dict[str, Any]:
    """What `evaluate` needs to know, as JSON data.

    samples: task name -> its samples, or a file of them, one JSON record a line; tokenizer: the folder of
    the competition's, None where each model brings its own; own_tasks: the validator's own files and
    entry points with methods.
    """
    tasks = []
    for task in competition.tasks:
        given = samples[task.name]
        records: Any = str(given) if isinstance(given, Path) else [to_record(sample) for sample in given]
        tasks.append(
            {"name": task.name, "method": task.method, "method_args": dict(task.method_args), "samples": records}
        )
    return {
        "model": str(model),
        "tokenizer": None if tokenizer is None else str(tokenizer),
        "constraints": asdict(competition.constraints),
        "evaluation": asdict(competition.evaluation),
        "engine": engine,
        "own_tasks": list(own_tasks),
        "tasks": tasks,
    }


def evaluate(payload: Mapping[str, Any], report: Report | None = None) -> dict[str, Any]:
    """Inspect the model, run every task on it, and say what came out; in a worker process.

    payload: as `payload_of` makes it; `device` (default "cpu"), `dtype` (default: the competition's), `threads` and
    `rows` (a file that `tokenize` filled) may be added. Returns {"tasks": {name: {"score", "values", "details", "note",
    "samples", "seconds", "tokens"}}, "parameters", "device", "dtype", "engine", "plan", "load_s", "memory_bytes"}.
    Raises ModelFault with the reason.
    """
    import torch

    tell = report or (lambda message: None)
    _prepare(payload)
    device = str(payload.get("device", "cpu"))
    constraints = _constraints(payload["constraints"])
    dtype = payload.get("dtype") or constraints.dtype
    tell({"stage": "load"})
    began = time.perf_counter()
    tokenizer, model = _load(payload, constraints, device, dtype)
    load_s = time.perf_counter() - began
    name = str(payload.get("engine", "fast"))
    engine = engine_of(name, model, constraints, payload.get("evaluation", {}))
    known = json.loads(Path(payload["rows"]).read_text()) if payload.get("rows") else {}
    with _owned(payload):
        tasks = {
            task["name"]: _run_task(task, tokenizer, engine, tell, known.get(task["name"])) for task in payload["tasks"]
        }
    return {
        "tasks": tasks,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "dtype": dtype,
        "engine": name,
        "plan": engine.plan() if name == "fast" else {},
        "load_s": load_s,
        "memory_bytes": _peak_bytes(device),
    }


def tokenize(payload: Mapping[str, Any], report: Report | None = None) -> dict[str, Any]:
    """The rows of every task, made once for all models with the competition's tokenizer: {task: [row, ...]}.

    Raises EvaluatorFault where the tokenizer fails.
    """
    _prepare(payload)
    constraints = _constraints(payload["constraints"])
    tokenizer = _competition_tokenizer(Path(payload["tokenizer"]))
    found = {}
    with _owned(payload):
        for task in payload["tasks"]:
            method = METHODS[task["method"]](**task["method_args"])
            rows = method.rows(_samples(task["samples"]), tokenizer, constraints.sequence_length)
            found[task["name"]] = [[row.sample, row.tokens, row.start, row.target_bytes] for row in rows]
    return found


def _prepare(payload: Mapping[str, Any]) -> None:
    """What must be set before anything is computed."""
    import torch

    if payload.get("threads"):
        torch.set_num_threads(int(payload["threads"]))
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    if payload.get("own_tasks"):
        from sn37.competitions import load_tasks

        load_tasks(payload["own_tasks"])


@contextlib.contextmanager
def _owned(payload: Mapping[str, Any]) -> Iterator[None]:
    """A tokenizer that fails is the fault of whose it is."""
    try:
        yield
    except TokenizerFault as error:
        if payload["tokenizer"] is None:
            raise ModelFault(str(error)) from error
        raise EvaluatorFault(f"the competition's tokenizer: {error}") from error


def _constraints(data: Mapping[str, Any]) -> Constraints:
    return Constraints(**{**data, "architectures": tuple(data["architectures"])})


def _load(payload: Mapping[str, Any], constraints: Constraints, device: str, dtype: str) -> tuple[Any, Any]:
    """The tokenizer and the inspected model, the model first, as the protocol orders its checks."""
    from sn37.checks.tokenizer import load_tokenizer
    from sn37.checks.weights import check_vocabulary, inspect

    model = inspect(Path(payload["model"]), constraints, device, dtype)
    given = payload["tokenizer"]
    tokenizer = load_tokenizer(Path(payload["model"])) if given is None else _competition_tokenizer(Path(given))
    check_vocabulary(model, tokenizer)
    return tokenizer, model


def _competition_tokenizer(folder: Path) -> Any:
    from sn37.checks.tokenizer import load_tokenizer

    try:
        return load_tokenizer(folder)
    except ModelFault as error:
        raise EvaluatorFault(f"the competition's tokenizer cannot be loaded: {error}") from error


def engine_of(name: str, model: Any, constraints: Constraints, settings: Mapping[str, Any]) -> Any:
    """The engine called `name` over a loaded model. settings: the competition's `Evaluation`, as data."""
    if name == "reference":
        from sn37.engine.reference import ReferenceEngine

        return ReferenceEngine(model, constraints.sequence_length)
    if name == "fast":
        from sn37.engine.fast import FastEngine

        return FastEngine(model, constraints.sequence_length, Evaluation(**settings).batch_tokens)
    raise ConfigError(f"unknown engine {name!r}; expected 'fast' or 'reference'")


def _run_task(
    task: Mapping[str, Any], tokenizer: Any, engine: Any, tell: Report, known: Sequence[Sequence[Any]] | None
) -> dict[str, Any]:
    """One task's raw score and what it came from. known: its rows, where `tokenize` has made them."""
    samples = _samples(task["samples"])
    method = METHODS[task["method"]](**task["method_args"])
    done = {"rows": 0, "tokens": 0}
    began = last = time.perf_counter()

    def progress(rows: int, tokens: int) -> None:
        nonlocal last
        done["rows"] += rows
        done["tokens"] += tokens
        if time.perf_counter() - last > 0.2:
            last = time.perf_counter()
            tell({"stage": "task", "task": task["name"], "samples": len(samples), "seconds": last - began, **done})

    tell({"stage": "task", "task": task["name"], "samples": len(samples), "seconds": 0.0, **done})
    if known is None:
        rows = method.rows(samples, tokenizer, engine.sequence_length)
    else:
        rows = tuple(Row(sample, tuple(tokens), start, size) for sample, tokens, start, size in known)
    result = method.score(rows, samples, tokenizer, engine, progress)
    if not all(math.isfinite(value) for value in (result.score, *result.values)):
        raise ModelFault(f"{task['name']}: the raw score is not finite")
    seconds = time.perf_counter() - began
    tell({"stage": "task", "task": task["name"], "samples": len(samples), "seconds": seconds, **done, "done": True})
    return {
        "score": result.score,
        "values": list(result.values),
        "details": [dict(detail) for detail in result.details],
        "note": result.note,
        "samples": list(result.samples),
        "seconds": seconds,
        "tokens": done["tokens"],
    }


def _samples(given: str | Sequence[Mapping[str, Any]]) -> list[Sample]:
    if isinstance(given, str):
        with Path(given).open(encoding="utf-8") as lines:
            return [from_record(json.loads(line)) for line in lines if line.strip()]
    return [from_record(record) for record in given]


def _peak_bytes(device: str) -> int:
    """The most memory this process has held: of the GPU's where it ran on one."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
