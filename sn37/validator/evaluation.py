"""Evaluate one model: the program that runs in the worker, and the judgement over a worker that died.

`evaluate` is called in an isolated process (`sn37.engine.isolation`) and is the only code that ever touches a
model's weights and tokenizer. `evaluate_all` runs it over many models and turns every outcome into a result
or an error with an owner; where a worker died, a control run, a known-good small model on the same samples, decides
whether the model or the evaluator is at fault.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from sn37.competition import Competition, Constraints, Evaluation
from sn37.engine.executors import Executor, Limits, OnProgress, Outcome
from sn37.engine.isolation import WorkerDied
from sn37.engine.model import modules
from sn37.errors import ConfigError, EvaluatorFault, ModelFault, Sn37Error
from sn37.methods import METHODS, TokenizerFault
from sn37.sample import Sample, from_record, to_record
from sn37.submission import file_digest

__all__ = ["control_model", "evaluate", "evaluate_all", "fault_of", "payload_of", "preloaded"]

FUNCTION = "sn37.validator.evaluation:evaluate"
Report = Callable[[dict[str, Any]], None]


def preloaded(architectures: Iterable[str] = ()) -> tuple[str, ...]:
    """The modules a worker needs, for an executor to import once."""
    return ("torch", "transformers.models.auto.tokenization_auto", __name__, *modules(architectures))


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

    payload: as `payload_of` makes it; `device` (default "cpu"), `dtype` (default: the competition's) and `threads`
    may be added. Returns {"tasks": {name: {"score", "values", "details", "note", "samples", "seconds", "tokens"}},
    "parameters", "device", "dtype", "engine", "load_s", "memory_bytes"}. Raises ModelFault with the reason.
    """
    import torch

    tell = report or (lambda message: None)
    if payload.get("threads"):
        torch.set_num_threads(int(payload["threads"]))
    torch.use_deterministic_algorithms(True, warn_only=True)
    if payload.get("own_tasks"):
        from sn37.competitions import load_tasks

        load_tasks(payload["own_tasks"])
    device = str(payload.get("device", "cpu"))
    constraints = _constraints(payload["constraints"])
    dtype = payload.get("dtype") or constraints.dtype
    tell({"stage": "load"})
    began = time.perf_counter()
    tokenizer, model = _load(payload, constraints, device, dtype)
    load_s = time.perf_counter() - began
    engine = _engine(str(payload.get("engine", "reference")), model, constraints, payload.get("evaluation", {}))
    try:
        tasks = {task["name"]: _run_task(task, tokenizer, engine, tell) for task in payload["tasks"]}
    except TokenizerFault as error:
        if payload["tokenizer"] is None:
            raise ModelFault(str(error)) from error
        raise EvaluatorFault(f"the competition's tokenizer: {error}") from error
    return {
        "tasks": tasks,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "dtype": dtype,
        "engine": str(payload.get("engine", "reference")),
        "load_s": load_s,
        "memory_bytes": _peak_bytes(device),
    }


def _constraints(data: Mapping[str, Any]) -> Constraints:
    return Constraints(**{**data, "architectures": tuple(data["architectures"])})


def _load(payload: Mapping[str, Any], constraints: Constraints, device: str, dtype: str) -> tuple[Any, Any]:
    """The tokenizer and the inspected model, the model first, as the protocol orders its checks."""
    from sn37.engine.inspection import check_vocabulary, inspect
    from sn37.engine.tokenizer import load_tokenizer

    model = inspect(Path(payload["model"]), constraints, device, dtype)
    if payload["tokenizer"] is None:
        tokenizer = load_tokenizer(Path(payload["model"]))
    else:
        try:
            tokenizer = load_tokenizer(Path(payload["tokenizer"]))
        except ModelFault as error:
            raise EvaluatorFault(f"the competition's tokenizer cannot be loaded: {error}") from error
    check_vocabulary(model, tokenizer)
    return tokenizer, model


def _engine(name: str, model: Any, constraints: Constraints, settings: Mapping[str, Any]) -> Any:
    if name == "reference":
        from sn37.engine.reference import ReferenceEngine

        return ReferenceEngine(model, constraints.sequence_length)
    if name == "fast":
        from sn37.engine.fast import FastEngine

        return FastEngine(model, constraints.sequence_length, Evaluation(**settings).batch_tokens)
    raise ConfigError(f"unknown engine {name!r}; expected 'fast' or 'reference'")


def _run_task(task: Mapping[str, Any], tokenizer: Any, engine: Any, tell: Report) -> dict[str, Any]:
    """One task's raw score and what it came from."""
    samples = _samples(task["samples"])
    method = METHODS[task["method"]]
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
    result = method(samples, tokenizer, engine, progress=progress, **task["method_args"])
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

    control: folder for known-good small models (`control_model`), one of which is asked when a worker died; tokenizer:
    the competition's. Errors have an owner: only ModelFault costs a miner anything.
    """
    given: dict[str, Mapping[str, Any]] = {}

    def remembered() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for key, payload in payloads:
            given[key] = payload
            yield key, payload

    for key, outcome in executor.run(FUNCTION, remembered(), limits, on_progress):
        payload = given.pop(key)
        if isinstance(outcome, WorkerDied):
            yield key, fault_of(outcome, partial(_control_run, executor, payload, limits, control, tokenizer))
        else:
            yield key, outcome


def fault_of(death: WorkerDied, control_run: Callable[[], Outcome]) -> Sn37Error:
    """Whose fault a worker's death is: the model's where the control run goes well, else the evaluator's."""
    outcome = control_run()
    if isinstance(outcome, Sn37Error):
        return EvaluatorFault(f"{death}; so did the control run: {outcome}")
    return ModelFault(f"the evaluation failed while a control model's went well: {death}")


def _control_run(
    executor: Executor, payload: Mapping[str, Any], limits: Limits, control: Path, tokenizer: Path | None
) -> Outcome:
    """The same samples and tasks with the control model, which meets any constraints."""
    anything = {
        "architectures": ["LlamaForCausalLM"],
        "min_parameters": 0,
        "max_parameters": 1 << 62,
        "norm_soft": 1e9,
        "norm_hard": 1e9,
    }
    asked = {"folder": str(control), "tokenizer": None if tokenizer is None else str(tokenizer)}
    made = dict(executor.run(f"{__name__}:make_control", [("made", asked)], limits))["made"]
    if isinstance(made, Sn37Error):
        return made
    changed = {"model": made["folder"], "constraints": {**payload["constraints"], **anything}}
    return dict(executor.run(FUNCTION, [("control", {**payload, **changed})], limits))["control"]


def make_control(payload: Mapping[str, Any], report: Report | None = None) -> dict[str, Any]:
    """`control_model` in a worker, so that the validator's own process never needs torch."""
    tokenizer = payload["tokenizer"]
    return {"folder": str(control_model(Path(payload["folder"]), None if tokenizer is None else Path(tokenizer)))}


def control_model(folder: Path, tokenizer: Path | None) -> Path:
    """The known-good model for a tokenizer (None: one of bytes): a tiny Llama with fixed weights, good for any length.

    Kept in `folder` under the tokenizer's digest and made where it is missing. Returns its own folder.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from sn37.engine.tokenizer import byte_tokenizer, load_tokenizer

    name = "bytes" if tokenizer is None else file_digest(tokenizer / "tokenizer.json")
    place = folder / hashlib.sha256(name.encode()).hexdigest()[:16]
    if place.is_dir():
        return place
    loaded = byte_tokenizer() if tokenizer is None else load_tokenizer(tokenizer)
    config = LlamaConfig(
        vocab_size=1 + max(loaded.get_vocab().values()),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=1 << 20,
        bos_token_id=None,
        eos_token_id=None,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(name)
        loaded.save_pretrained(name)
        with contextlib.suppress(OSError):  # another process was faster
            Path(name).rename(place)
            Path(name).mkdir()
    return place
