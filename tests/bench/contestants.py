"""The contestants: each answers the same rows with the same model, in its own way.

Each gives the seconds it took and one result per row: the mean loss of its targets in nats, or the text of the reply.
Judging replies belongs to nobody's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.workloads import Work
from sn37.competition import Constraints, Evaluation

__all__ = ["CONTESTANTS", "Answers", "Bench"]


@dataclass(frozen=True)
class Bench:
    """What a contestant works with. rows: the method's, one a prompt or reference; engine: of those a validator has."""

    work: Work
    samples: Sequence[Any]
    rows: Sequence[Any]
    model: Any
    tokenizer: Any
    engine: str = "fast"


@dataclass(frozen=True)
class Answers:
    """seconds: the contestant's own; results: one per row; new_tokens: how many each reply took, where it is known."""

    seconds: float
    results: list[Any]
    new_tokens: list[int] | None = None


class _Timed:
    """An engine, and the time spent in it."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.sequence_length = engine.sequence_length
        self.seconds = 0.0
        self.replies: list[list[int]] = []

    def losses(self, rows: Any, progress: Any = None) -> list[float]:
        began = _now(self._engine.model)
        losses: list[float] = self._engine.losses(rows, progress)
        self.seconds += _now(self._engine.model) - began
        return losses

    def generate(self, rows: Any, progress: Any = None) -> list[list[int]]:
        began = _now(self._engine.model)
        self.replies = self._engine.generate(rows, progress)
        self.seconds += _now(self._engine.model) - began
        return self.replies


def _now(model: Any) -> float:
    """The time, once the device has done what it was given."""
    if model.device.type == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def engine(bench: Bench) -> Answers:
    """This library's engine, as a validator's worker makes it, asked by the method itself."""
    from bench.models import ARCHITECTURES
    from sn37.evaluation.job import engine_of
    from sn37.methods import METHODS

    limits = Constraints(ARCHITECTURES, 1 << 62, 1 << 62, bench.work.most_tokens, None, 0)
    timed = _Timed(engine_of(bench.engine, bench.model, limits, Evaluation()))
    method: Any = METHODS[bench.work.method]()
    result = method.score(bench.rows, bench.samples, bench.tokenizer, timed)
    if not bench.work.generates:
        return Answers(timed.seconds, list(result.values))
    return Answers(timed.seconds, [_text(bench, new) for new in timed.replies], [len(new) for new in timed.replies])


def plain(bench: Bench) -> Answers:
    """One row at a time with all logits, in the model's own dtype: what validators of the live network run."""
    import torch

    ask: Callable[[Bench, Any], Any] = _generate_one if bench.work.generates else _loss_of_one
    began = _now(bench.model)
    with torch.no_grad():
        found = [ask(bench, row) for row in bench.rows]
    seconds = _now(bench.model) - began
    if not bench.work.generates:
        return Answers(seconds, found)
    return Answers(seconds, [_text(bench, new) for new in found], [len(new) for new in found])


def _loss_of_one(bench: Bench, row: Any) -> float:
    import torch
    from torch.nn.functional import cross_entropy

    ids = torch.tensor([row.tokens], device=bench.model.device)
    logits = bench.model(input_ids=ids).logits
    return float(cross_entropy(logits[0, row.start - 1 : -1], ids[0, row.start :]))


def _generate_one(bench: Bench, row: Any) -> list[int]:
    import torch

    ids = torch.tensor([row.tokens], device=bench.model.device)
    new: list[int] = bench.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=bench.work.new_tokens,
        repetition_penalty=bench.work.repetition_penalty,
        do_sample=False,
        eos_token_id=bench.tokenizer.eos_token_id,
        pad_token_id=bench.tokenizer.pad_token_id,
    )[0, len(row.tokens) :].tolist()
    return new


def lm_eval_16(bench: Bench) -> Answers:
    """lm-evaluation-harness' HFLM with batches of 16."""
    return _lm_eval(bench, 16)


def lm_eval_auto(bench: Bench) -> Answers:
    """lm-evaluation-harness' HFLM, which finds its batch size itself."""
    return _lm_eval(bench, "auto")


def _lm_eval(bench: Bench, batch_size: int | str) -> Answers:
    import importlib
    import logging

    instance: Any = importlib.import_module("lm_eval.api.instance").Instance
    peer: Any = importlib.import_module("lm_eval.models.huggingface").HFLM
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    peer = peer(
        pretrained=bench.model,
        tokenizer=bench.tokenizer,
        batch_size=batch_size,
        max_length=bench.work.most_tokens,
        add_bos_token=False,
        device=str(bench.model.device),
    )
    if not bench.work.generates:
        texts = [_prompt_and_reference(bench, row) for row in bench.rows]
        asked = [instance("loglikelihood", {}, pair, i) for i, pair in enumerate(texts)]
        began = _now(bench.model)
        found = peer.loglikelihood(asked, disable_tqdm=True)
        seconds = _now(bench.model) - began
        losses = [-total / (len(row.tokens) - row.start) for (total, _), row in zip(found, bench.rows, strict=True)]
        return Answers(seconds, losses)
    settings = {
        "until": [],
        "max_gen_toks": bench.work.new_tokens,
        "do_sample": False,
        "repetition_penalty": bench.work.repetition_penalty,
    }
    prompts = [_text(bench, row.tokens) for row in bench.rows]
    asked = [instance("generate_until", {}, (prompt, dict(settings)), i) for i, prompt in enumerate(prompts)]
    began = _now(bench.model)
    replies = peer.generate_until(asked, disable_tqdm=True)
    return Answers(_now(bench.model) - began, [reply.strip() for reply in replies])


def _prompt_and_reference(bench: Bench, row: Any) -> tuple[str, str]:
    return _text(bench, row.tokens[: row.start]), " " + _text(bench, row.tokens[row.start :])


def _text(bench: Bench, tokens: Sequence[int]) -> str:
    text: str = bench.tokenizer.decode(list(tokens), skip_special_tokens=True)
    return text.strip()


CONTESTANTS: dict[str, Callable[[Bench], Answers]] = {
    "engine": engine,
    "plain loop": plain,
    "lm-eval 16": lm_eval_16,
    "lm-eval auto": lm_eval_auto,
}
"""By name, this library's engine first."""
