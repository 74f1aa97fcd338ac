"""Whose fault it is when a worker dies: a control run, a known-good small model on the same samples, decides.

Where the control model goes through, the evaluator is sound and the model is to blame; where it dies as well, nobody
is punished.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sn37.errors import EvaluatorFault, ModelFault, Sn37Error
from sn37.submission import file_digest
from sn37.workers.executors import Executor, Limits, Outcome
from sn37.workers.isolation import WorkerDied

__all__ = ["control_model", "control_run", "evaluate_control", "fault_of"]

_ANYTHING = {
    "architectures": ["LlamaForCausalLM"],
    "min_parameters": 0,
    "max_parameters": 1 << 62,
    "norm_soft": 1e9,
    "norm_hard": 1e9,
}
"""Constraints that any control model meets."""


def fault_of(death: WorkerDied, control_run: Callable[[], Outcome]) -> Sn37Error:
    """Whose fault a worker's death is: the model's where the control run goes well, else the evaluator's."""
    outcome = control_run()
    if isinstance(outcome, Sn37Error):
        return EvaluatorFault(f"{death}; so did the control run: {outcome}")
    return ModelFault(f"the evaluation failed while a control model's went well: {death}")


def control_run(executor: Executor, payload: Mapping[str, Any], limits: Limits, folder: Path) -> Outcome:
    """The payload's samples and tasks with a control model, kept in `folder`."""
    asked = [("control", {**payload, "control": str(folder)})]
    return dict(executor.run(f"{__name__}:evaluate_control", asked, limits))["control"]


def evaluate_control(payload: Mapping[str, Any], report: Any = None) -> dict[str, Any]:
    """`evaluate` with the control model in place of the payload's; in a worker, where it is made if it is missing."""
    from sn37.evaluation.job import evaluate

    given = payload["tokenizer"]
    model = control_model(Path(payload["control"]), None if given is None else Path(given))
    constraints = {**payload["constraints"], **_ANYTHING}
    return evaluate({**payload, "model": str(model), "constraints": constraints}, report)


def control_model(folder: Path, tokenizer: Path | None) -> Path:
    """The known-good model for a tokenizer (None: one of bytes): a tiny Llama with fixed weights, good for any length.

    Kept in `folder` under the tokenizer's digest and made where it is missing. Returns its own folder.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from sn37.checks.tokenizer import byte_tokenizer, load_tokenizer

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
