"""The rounds: every contestant does every work, all taking turns, and the median of each is kept.

Taking turns spreads what the machine does besides over all of them alike. The processes of one work live side by
side and wait without computing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from bench import models
from bench.process import MATMUL, Contestant, ContestantFailed
from bench.workloads import WORKS, Work, needed_operations
from sn37.errors import ConfigError

__all__ = ["CONTESTANT_NAMES", "Measurement", "Plan", "measure"]

CONTESTANT_NAMES = ("engine", "plain loop", "lm-eval 16", "lm-eval auto")
_PLAIN = "plain loop"
_PRECISION_ROWS = {"short": 16, "long": 3}

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    works: none where only whole evaluations are timed; quick: few samples; engine: of those a validator has;
    threads: of every process.
    """

    works: tuple[str, ...] = tuple(WORKS)
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    contestants: tuple[str, ...] = CONTESTANT_NAMES
    device: str = "cpu"
    size: str = "tiny"
    rounds: int = 3
    vocabulary: int = 100_277
    quick: bool = False
    engine: str = "fast"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.works:
            _choose("work", self.works, tuple(WORKS))
        _choose("dtype", self.dtypes, ("bfloat16", "float32"))
        _choose("contestant", self.contestants, CONTESTANT_NAMES)
        _choose("device", (self.device,), ("cpu", "cuda"))
        _choose("size", (self.size,), tuple(models.SIZES))
        _choose("engine", (self.engine,), ("fast", "reference"))
        if self.rounds < 1:
            raise ConfigError(f"rounds is {self.rounds}; expected 1 or more")
        if self.vocabulary < 128:
            raise ConfigError(f"vocabulary is {self.vocabulary}; expected 128 words or more")

    def count(self, work: Work) -> int:
        """How many samples."""
        return work.quick_count if self.quick else work.count


def _choose(name: str, given: Sequence[str], choices: Sequence[str]) -> None:
    unknown = [value for value in given if value not in choices]
    if unknown or not given:
        raise ConfigError(f"unknown {name} {', '.join(unknown) or '(none)'}; expected some of {', '.join(choices)}")


@dataclass
class Measurement:
    """One contestant on one work in one dtype. Losses are in nats per token; memory is above the loaded model.

    seconds: of each round; cpu_s: the processor's own, without those it gave to others; operations: needed for the
    work, whoever does it; machine: operations per second of a large
    matrix product; difference: of its results from the plain loop's: the largest of losses, or how many replies are
    others; error_nats: the largest of a loss, against float64; wrong: share of wrong answers; failed: why there are
    no figures.
    """

    work: str
    contestant: str
    dtype: str
    samples: int
    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    tokens: int = 0
    peak_bytes: int = 0
    operations: float = 0.0
    machine: float = 0.0
    difference: float | None = None
    error_nats: float | None = None
    wrong: float | None = None
    failed: str = ""
    results: list[Any] = field(default_factory=list, repr=False)
    new_tokens: list[int] | None = field(default=None, repr=False)

    @property
    def median_s(self) -> float:
        """Seconds; not a number where there are none."""
        return median(self.seconds) if self.seconds else float("nan")

    @property
    def tokens_per_s(self) -> float:
        """Tokens of rows and needed replies, the same count for every contestant."""
        return self.tokens / self.median_s

    @property
    def share_of_machine(self) -> float:
        """What part of the speed of a large matrix product the needed operations reach."""
        return self.operations / self.median_s / self.machine if self.machine else float("nan")

    @property
    def generates(self) -> bool:
        """Whether its results are replies."""
        return WORKS[self.work].generates


def measure(plan: Plan, folder: Path, tell: Tell = lambda text: None) -> list[Measurement]:
    """Everything the plan asks for; models are made in `folder`. tell: called with a line for each thing done."""
    contestants = [name for name in plan.contestants if _there(name, tell)]
    found: list[Measurement] = []
    for name in plan.works:
        work = WORKS[name]
        tell(f"making a {plan.size} model {'that answers' if work.trained else 'of random weights'} for {name}")
        model = _model(plan, work, folder / ("trained" if work.trained else f"random-{work.most_tokens}"))
        for dtype in plan.dtypes:
            found.extend(_measure_one(plan, name, dtype, model, contestants, tell))
    return found


def _there(name: str, tell: Tell) -> bool:
    missing = name.startswith("lm-eval") and find_spec("lm_eval") is None
    if missing:
        tell(f"left out: {name} needs pip install 'sn37[bench]'")
    return not missing


def _model(plan: Plan, work: Work, folder: Path) -> Path:
    if not folder.is_dir():
        from sn37.devnet.tiny_llama import save

        size, make = models.SIZES[plan.size], models.trained_model if work.trained else models.random_model
        model = make(size, plan.vocabulary, max(work.most_tokens, 512))
        save(model, models.word_tokenizer(plan.vocabulary), folder)
    return folder


def _measure_one(
    plan: Plan, name: str, dtype: str, model: Path, contestants: Sequence[str], tell: Tell
) -> list[Measurement]:
    work = WORKS[name]
    task = {
        "work": name,
        "dtype": dtype,
        "device": plan.device,
        "threads": plan.threads,
        "engine": plan.engine,
        "vocabulary": plan.vocabulary,
        "count": plan.count(work),
        "model": str(model),
        "precision_rows": _PRECISION_ROWS.get(name, 0),
    }
    found = {c: Measurement(name, c, dtype, plan.count(work)) for c in contestants}
    machine: list[float] = []
    shape: list[tuple[int, int]] = []
    with ExitStack() as stack:
        running = {c: stack.enter_context(Contestant({**task, "contestant": c})) for c in (*contestants, MATMUL)}
        for number in range(plan.rounds):
            machine.append(running[MATMUL].ask("multiply")["operations_per_s"])
            for contestant, measured in found.items():
                if measured.failed:
                    continue
                try:
                    _take(measured, running[contestant].ask("run"))
                    shape = shape or [tuple(row) for row in running[contestant].ask("shape")["rows"]]
                    if number == 0 and task["precision_rows"]:
                        measured.error_nats = running[contestant].ask("precision")["error_nats"]
                except ContestantFailed as error:
                    measured.failed = str(error)
                said = measured.failed or f"{measured.seconds[-1]:.2f} s"
                tell(f"round {number + 1} of {plan.rounds}, {name}, {dtype}, {contestant}: {said}")
    _conclude(plan, work, list(found.values()), shape, median(machine))
    return list(found.values())


def _take(measured: Measurement, answer: Mapping[str, Any]) -> None:
    measured.seconds.append(answer["seconds"])
    measured.cpu_s.append(answer["cpu_s"])
    measured.peak_bytes = max(measured.peak_bytes, answer["peak_bytes"])
    measured.results, measured.new_tokens = answer["results"], answer["new_tokens"]


def _conclude(
    plan: Plan, work: Work, found: Sequence[Measurement], shape: Sequence[tuple[int, int]], machine: float
) -> None:
    """What follows from all of them together: the needed operations, and how their results differ."""
    size = models.SIZES[plan.size]
    # The shortest reply that decides the same is what is needed: whoever says more works for nothing.
    known = [m.new_tokens for m in found if m.new_tokens]
    replies = [min(lengths) for lengths in zip(*known, strict=True)] if known else [0] * len(shape)
    rows = [
        (tokens + new - 1, new) if work.generates else (tokens - 1, tokens - start)
        for (tokens, start), new in zip(shape, replies, strict=False)
    ]
    plain = next((m.results for m in found if m.contestant == _PLAIN and m.results), None)
    wanted = work.samples(plan.vocabulary, plan.count(work)) if work.trained else None
    for measured in found:
        if measured.failed:
            continue
        measured.machine = machine
        measured.operations = needed_operations(size, plan.vocabulary, rows)
        measured.tokens = sum(tokens for tokens, _ in rows)
        if work.trained:
            measured.results = _answers(measured.results)
            measured.wrong = _share_wrong(measured.results, wanted or [])
        if plain is not None:
            measured.difference = _difference(work, measured.results, _answers(plain) if work.trained else plain)


def _answers(replies: Sequence[str]) -> list[str | None]:
    from sn37.methods.multiple_choice import answer_of

    return [answer_of(reply, models.CHOICES) for reply in replies]


def _share_wrong(answers: Sequence[str | None], samples: Sequence[Any]) -> float:
    return sum(bool(a != s.answer) for a, s in zip(answers, samples, strict=True)) / len(answers)


def _difference(work: Work, results: Sequence[Any], plain: Sequence[Any]) -> float:
    if work.generates:
        return float(sum(a != b for a, b in zip(results, plain, strict=True)))
    return float(max(abs(a - b) for a, b in zip(results, plain, strict=True)))
