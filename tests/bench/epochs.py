"""The cost of an evaluation beside its models: eight equal ones against one, through the executor validators use."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench import models
from bench.measure import Plan
from bench.workloads import WORKS
from sn37.competition import Competition, Constraints, EvalTask, Fixed
from sn37.errors import Sn37Error

__all__ = ["MODELS", "Epochs", "measure_epochs"]

MODELS = 8


@dataclass
class Epochs:
    """Seconds of whole evaluations, from opening the executor to closing it, by how many equal models they had."""

    dtype: str
    one_s: list[float] = field(default_factory=list)
    eight_s: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times as long eight models take as one: 8 or less where nothing grows."""
        return median(self.eight_s) / median(self.one_s)

    @property
    def constant_s(self) -> float:
        """The part that does not grow with the models, in seconds: what a line through both leaves at no model."""
        return (MODELS * median(self.one_s) - median(self.eight_s)) / (MODELS - 1)


def measure_epochs(plan: Plan, folder: Path, tell: Callable[[str], None] = lambda text: None) -> list[Epochs]:
    """One and eight models in turns, for each dtype; a model that fails raises its fault."""
    from sn37.devnet.tiny_llama import save

    work = WORKS["choices"]
    model = models.trained_model(models.SIZES[plan.size], plan.vocabulary, 512)
    place = save(model, models.word_tokenizer(plan.vocabulary), folder / "epoch")
    found = []
    for dtype in plan.dtypes:
        epochs = Epochs(dtype)
        payload = _payload(plan, dtype, place, work.samples(plan.vocabulary, plan.count(work)))
        for number in range(plan.rounds):
            for count, seconds in ((1, epochs.one_s), (MODELS, epochs.eight_s)):
                seconds.append(_evaluate(plan, payload, count))
                tell(f"round {number + 1} of {plan.rounds}, epoch, {dtype}, {count} models: {seconds[-1]:.2f} s")
        found.append(epochs)
    return found


def _payload(plan: Plan, dtype: str, place: Path, questions: Any) -> Mapping[str, Any]:
    from sn37.evaluation.job import Job

    texts = WORKS["short"]
    samples = {"QUESTIONS": questions, "TEXTS": texts.samples(plan.vocabulary, plan.count(texts) // 4)}
    competition = Competition(
        1,
        "BENCH",
        Constraints(models.ARCHITECTURES, 1 << 62, 1 << 62, 512, None, 0, norm_soft=1e9, norm_hard=1e9, dtype=dtype),
        Fixed(0.01),
        (EvalTask("QUESTIONS", "made", "multiple_choice", 0.5), EvalTask("TEXTS", "made", "reference_loss", 0.5)),
    )
    return Job.of(competition, place, samples, tokenizer=None, engine=plan.engine).payload()


def _evaluate(plan: Plan, payload: Mapping[str, Any], count: int) -> float:
    from sn37.evaluation.run import FUNCTION, preloaded
    from sn37.workers.executors import Limits, open_executor

    device = "cpu" if plan.device == "cpu" else "cuda:0"
    began = time.perf_counter()
    with closing(open_executor("local", (device,), preloaded(models.ARCHITECTURES))) as executor:
        for _, outcome in executor.run(FUNCTION, [(str(i), payload) for i in range(count)], Limits(3600.0)):
            if isinstance(outcome, Sn37Error):
                raise outcome
    return time.perf_counter() - began
