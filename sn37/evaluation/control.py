"""Whose fault it is when a worker dies or runs over its time: a control run, a known-good small model on the same
samples, decides.

Where the control model goes through, the evaluator is sound and the model is to blame; where it dies as well, nobody
is punished. A control model is one that passes the competition's own checks of what a model says: it is untrained, and
of a few candidates the first that passes them counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sn37.errors import EvaluatorFault, ModelFault, Sn37Error
from sn37.evaluation.job import Job, Report, measure
from sn37.records.codec import to_data, typed
from sn37.records.results import Measurement
from sn37.submission import file_digest
from sn37.workers.executors import Executor, Limits, Outcome
from sn37.workers.isolation import WorkerDied

__all__ = ["CANDIDATES", "control_model", "control_run", "evaluate_control", "fault_of", "needs_control"]

CANDIDATES = 16
"""How many models are tried before it is said that none passes the competition's checks."""


def needs_control(trouble: Sn37Error) -> bool:
    """Whether a worker's trouble may be the model's: its death, and what only the samples or the settings could cause,
    if no model had a hand in it. What an executor cannot run at all is the evaluator's without a question."""
    return isinstance(trouble, WorkerDied) or trouble.owner in ("data", "user", "chain")


def fault_of(trouble: Sn37Error, control: Measurement | Sn37Error) -> Sn37Error:
    """Whose fault a worker's trouble is: the model's where the control run went well, else what it was at first."""
    if not isinstance(control, Sn37Error):
        return ModelFault(f"the evaluation failed while a control model's went well: {trouble}")
    if isinstance(trouble, WorkerDied):
        return EvaluatorFault(f"{trouble}; so did the control run: {control}")
    return trouble


def control_run(executor: Executor, job: Job, limits: Limits, folder: Path) -> Outcome:
    """The job's samples and tasks with a control model, kept in `folder`."""
    payload = {**job.payload(), "control": str(folder)}
    return dict(executor.run(f"{__name__}:evaluate_control", [("control", payload)], limits))["control"]


def evaluate_control(payload: Mapping[str, object], report: Report | None = None) -> dict[str, object]:
    """`evaluate` with a control model in place of the job's; in a worker.

    payload: a `Job` as JSON data, and as `control` the folder of control models, which are made where they are missing.
    """
    data = dict(payload)
    folder = Path(str(data.pop("control")))
    job = typed(Job, data, "a job")
    constraints = replace(
        job.constraints,
        architectures=("LlamaForCausalLM",),
        min_parameters=0,
        max_parameters=1 << 62,
        norm_soft=1e9,
        norm_hard=1e9,
    )
    refused: ModelFault | None = None
    for seed in range(CANDIDATES):
        model = control_model(folder, job.tokenizer, seed)
        try:
            return to_data(measure(replace(job, model=model, constraints=constraints), report))
        except ModelFault as error:
            refused = error
    raise EvaluatorFault(f"none of {CANDIDATES} control models passes the competition's checks: {refused}")


def control_model(folder: Path, tokenizer: Path | None, seed: int = 0) -> Path:
    """A known-good model for a tokenizer (None: one of bytes): a tiny Llama of fixed weights, good for any length.

    Its weights are large, so that what it says depends on all it has read and is no single token for ever. Kept in
    `folder` under the tokenizer's digest and made where it is missing. Returns its own folder.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from sn37.checks.tokenizer import byte_tokenizer, load_tokenizer

    name = "bytes" if tokenizer is None else file_digest(tokenizer / "tokenizer.json")
    place = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-{seed}"
    if place.is_dir():
        return place
    loaded: Any = byte_tokenizer() if tokenizer is None else load_tokenizer(tokenizer)
    config = LlamaConfig(
        vocab_size=1 + max(loaded.get_vocab().values()),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=1.0,
        max_position_embeddings=1 << 20,
        bos_token_id=None,
        eos_token_id=None,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as aside, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(aside)
        loaded.save_pretrained(aside)
        with contextlib.suppress(OSError):  # another process was faster
            Path(aside).rename(place)
            Path(aside).mkdir()
    return place
