"""Is a task any good? `judge_task` scores models, games and gold answers on it, and judges it by that.

    sn37.judge_task(task, {"weak": "./a", "middle": "./b", "strong": "./c"}, seed=7)

What is evaluated is gathered here; the conclusions are drawn in `sn37.analysis.task_findings`. Models are evaluated as
`sn37.evaluate` does it, with all that it protects against and does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.analysis.judgement import Judgement
from sn37.analysis.task_evidence import Evidence
from sn37.clock import generator
from sn37.competition import Constraints, Epsilon, EvalTask, LinearDecay
from sn37.errors import ConfigError, DataFault
from sn37.evaluation.games import Table, play, play_gold
from sn37.evaluation.local import ANY_MODEL, Data, draw, evaluate, model_folder, named_models, tokenizer_folder
from sn37.evaluation.variants import WORDINGS, reordered, reworded
from sn37.records.results import Measurement, TaskResult
from sn37.sample import Sample, digest

if TYPE_CHECKING:
    from sn37.evaluation.result import LocalResult

__all__ = ["judge_task"]

_EPSILON = LinearDecay(0.05, 0.01, 36_000)


def judge_task(
    task: EvalTask,
    models: Sequence[str | Path] | Mapping[str, str | Path] = (),
    seed: int = 0,
    *,
    beside: Sequence[EvalTask] = (),
    epsilon: Epsilon = _EPSILON,
    wordings: Mapping[str, str] = WORDINGS,
    samples: Sequence[Sample] | None = None,
    data: Data | None = None,
    constraints: Constraints | None = None,
    tokenizer: str | Path | None = None,
    device: str = "auto",
    dtype: str = "",
    isolated: bool = False,
) -> Judgement:
    """Judge whether an evaluation task could decide a competition: one page in words, with figures and data frames.

    models: as `evaluate` takes them, the weakest first where that is known; three of different strength tell most, and
    without any only the references, the games and the samples themselves are looked at. seed: of the samples. beside:
    tasks that it would stand next to in a competition. epsilon: that of the competition. wordings: name -> a prompt's
    other wording, `{prompt}` in it; {} for none. samples: in place of drawn ones. The others are `evaluate`'s.

    A model that breaks a rule stops nobody. Raises ConfigError, DataFault and HubFault.

    >>> judge_task(task("WORDS", source="word_sorting", method="reference_loss", count=20)).verdict
    'open'
    """
    data = data or Data()
    drawn = draw(task, seed, data) if samples is None else tuple(samples)
    practice = draw(task, seed + 1, data) if samples is None else drawn
    variants = _variants(task, drawn, wordings, seed)
    tasks = [task, *(replace(task, name=name) for name, _, _ in variants), *beside]
    known = {task.name: drawn} | {name: derived for name, _, derived in variants}
    run = partial(evaluate, constraints=constraints, tokenizer=tokenizer, device=device, dtype=dtype, isolated=isolated)
    result = run(models, tasks, seed, data=data, samples=known) if models else None
    outcomes = _outcomes(result)
    scored = outcomes.get(task.name, {})
    best = named_models(models)[min(scored, key=lambda name: scored[name].score)] if scored else None
    table = _table(task, drawn, best, constraints or ANY_MODEL, tokenizer, data)
    return Judgement(
        Evidence(
            task=task,
            samples=drawn,
            seed=seed,
            epsilon=epsilon,
            gold=play_gold(table),
            games=play(table, practice),
            repeated=_repeated(drawn, practice) if samples is None else None,
            models=scored,
            faults=result.faults if result else {},
            variants={what: outcomes[name] for name, what, _ in variants if name in outcomes},
            beside=tuple(beside),
            others={other.name: outcomes.get(other.name, {}) for other in beside},
        )
    )


def _variants(
    task: EvalTask, drawn: Sequence[Sample], wordings: Mapping[str, str], seed: int
) -> list[tuple[str, str, tuple[Sample, ...]]]:
    """(a name for a task, what is other about them, the samples), those that anything changes in."""
    if not drawn:
        raise DataFault(f"task {task.name}: there are no samples; expected one or more")
    if any(wording and "{prompt}" not in wording for wording in wordings.values()):
        raise ConfigError(f"the wordings are {dict(wordings)}; expected '{{prompt}}' in each")
    found = {what: reworded(drawn, wording) for what, wording in wordings.items()}
    found["choices reordered"] = reordered(drawn, generator(seed, f"{task.name} reordered"))
    return [(f"{task.name[:56]}_{n}", what, derived) for n, (what, derived) in enumerate(found.items()) if derived]


def _outcomes(result: LocalResult | None) -> dict[str, dict[str, TaskResult]]:
    """Task -> model -> its outcome."""
    found: dict[str, dict[str, TaskResult]] = {}
    for name, measured in result.measured.items() if result else ():
        if isinstance(measured, Measurement):
            for task, outcome in measured.tasks.items():
                found.setdefault(task, {})[name] = outcome
    return found


def _table(
    task: EvalTask,
    drawn: Sequence[Sample],
    model: str | Path | None,
    constraints: Constraints,
    tokenizer: str | Path | None,
    data: Data,
) -> Table:
    """What games are played on: with the tokenizer of all models, or the best model's own, or one token a byte."""
    from sn37.checks.tokenizer import byte_tokenizer, load_tokenizer

    length = constraints.sequence_length
    if (folder := tokenizer_folder(tokenizer or constraints.tokenizer, data)) is not None:
        return Table.of(task, drawn, load_tokenizer(folder), length, own_tokenizer=False)
    if model is None:
        return Table.of(task, drawn, byte_tokenizer(), length, own_tokenizer=True)
    with model_folder(model, data) as folder:
        return Table.of(task, drawn, load_tokenizer(folder), length, own_tokenizer=True)


def _repeated(drawn: Sequence[Sample], practice: Sequence[Sample]) -> float:
    """The share of the samples that are in another draw as well."""
    seen = {digest((sample,)) for sample in practice}
    return sum(digest((sample,)) in seen for sample in drawn) / len(drawn)
