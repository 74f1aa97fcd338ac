"""Evaluation for people: tasks made in a cell, samples drawn, models scored, as a validator would.

    task = sn37.task("CAPITALS", source="capitals", method="choice_likelihood", count=200)
    result = sn37.evaluate(["./model-a", "user/repo@commit"], [task], seed=7)

The same samples for the same seed and task name, the same checks and the same engine as in a validator's worker. Runs
in this process, or in a worker with `isolated=True`. Knows nothing of records, the chain or who wins.

In this process a model is only kept from bringing code: one that swells or hangs is stopped by you. Models of strangers
belong into a worker.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, cast, overload

from sn37.clock import generator
from sn37.competition import ARCHITECTURES, Competition, Constraints, EvalTask, Evaluation, Normalization, Unnormalized
from sn37.errors import ConfigError, ModelFault
from sn37.evaluation.job import Job, Task, measure
from sn37.evaluation.progress import Progress
from sn37.evaluation.result import LocalResult
from sn37.records.results import Measurement
from sn37.sample import Sample, digest
from sn37.scratch import ScratchFolder
from sn37.sources import SOURCES, Context, draw_samples
from sn37.sources.base import DatasetReader, Run, TrustedHotkeys

if TYPE_CHECKING:
    from sn37.hub import Hub

__all__ = [
    "ANY_MODEL",
    "Data",
    "Samples",
    "chosen_device",
    "draw",
    "evaluate",
    "in_process",
    "model_folder",
    "named_models",
    "task",
    "tokenizer_folder",
]

_AT_COMMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*@[0-9a-f]{40}")

_UNNORMALIZED = Unnormalized()

ANY_MODEL = Constraints(
    architectures=ARCHITECTURES,
    max_parameters=1 << 62,
    max_bytes=1 << 62,
    sequence_length=4_096,
    tokenizer=None,
    delay_blocks=0,
    norm_soft=1e30,
    norm_hard=1e30,
)
"""What models must be where no competition says it: one of the nine architectures, safetensors, no code."""


@dataclass(frozen=True)
class Data:
    """Where samples come from that are not generated."""

    endpoint: str | None = None
    """The hub's address; None for the public one."""
    token: str | None = field(default=None, repr=False)
    """A hub token, for private or gated data."""
    as_of: datetime | None = None
    """Datasets are read at their newest commit at or before it (with its time zone); None: the newest of all."""
    trusted: Collection[str] | TrustedHotkeys = ()
    """Hotkeys whose data counts, for sources that take only what trusted validators have written; or who says it, as
    `sn37.chain.Subnet.trusted` does."""
    cache: Path = Path("~/.cache/sn37")
    """What was read is kept here."""

    def hub(self) -> Hub:
        """The hub through its client."""
        from sn37.hub import Hub

        return Hub(self.endpoint, self.token, cache=self.cache.expanduser() / "models")

    def reader(self) -> DatasetReader:
        """The datasets, pinned."""
        from sn37.data import PinnedDatasets

        as_of = self.as_of or datetime.now(UTC)
        return PinnedDatasets(self.hub(), as_of, self.cache.expanduser() / "datasets")


class Samples(tuple[Sample, ...]):
    """A task's samples, in the order drawn; shows itself as a table."""

    @property
    def digest(self) -> str:
        """Equal digests, equal samples in equal order: what validators compare."""
        return digest(self)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Samples: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Sample | Samples:
        return Samples(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def __repr__(self) -> str:
        kinds = ", ".join(sorted({type(sample).__name__ for sample in self})) or "none"
        return f"{len(self)} samples ({kinds}), digest {self.digest[:16]}"

    def _repr_html_(self) -> str:
        from sn37.html import table

        names = [name for name in vars(self[0]) if name != "group"] if self else []
        rows = [[_short(getattr(sample, name, "")) for name in names] for sample in self[:10]]
        return table(names, rows, f"{self!r}; the first {len(rows)}")


def task(
    name: str,
    *,
    source: str,
    method: str,
    weight: float = 1.0,
    normalization: Normalization = _UNNORMALIZED,
    source_args: Mapping[str, object] | None = None,
    method_args: Mapping[str, object] | None = None,
    **arguments: object,
) -> EvalTask:
    """An evaluation task of registered parts; arguments go to whichever of the two takes them.

    source_args, method_args: for an argument that both take. Raises ConfigError naming the argument, what it got and
    what is expected.

    >>> task("WORDS", source="word_sorting", method="reference_loss", count=20).source_args
    {'count': 20}
    """
    from sn37.documents import argument_mistakes
    from sn37.methods import METHODS
    from sn37.registry import Factory, suggestion

    taken = {"source": dict(source_args or {}), "method": dict(method_args or {})}
    parts: dict[str, Factory[Any]] = {"source": SOURCES[source], "method": METHODS[method]}
    for key, value in arguments.items():
        owners = [kind for kind, factory in parts.items() if key in factory.arguments]
        if len(owners) != 1:
            known = [argument for factory in parts.values() for argument in factory.arguments]
            what = f"both take {key!r}: say it in source_args or method_args" if owners else f"neither takes {key!r}"
            choices = f"the arguments are {', '.join(known) or 'none'}{suggestion(key, known)}"
            raise ConfigError(f"task {name}: {source} and {method}: {what}; {choices}")
        taken[owners[0]][key] = value
    found: list[str] = []
    for kind, factory in parts.items():
        found += argument_mistakes(
            factory, taken[kind], f"task {name}: {kind} {source if kind == 'source' else method}"
        )
    if found:
        raise ConfigError("\n".join(found))
    try:
        return EvalTask(name, source, method, weight, taken["source"], taken["method"], normalization)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def draw(task: EvalTask, seed: int, data: Data | None = None) -> Samples:
    """The task's samples for a seed: those a validator would draw. Raises DataFault, ConfigError, HubFault.

    >>> draw(task("WORDS", source="word_sorting", method="reference_loss", count=3), seed=7)
    3 samples (ReferenceSample), digest ...
    """
    context = _context(task, seed, data or Data())
    samples = draw_samples(SOURCES[task.source](**task.source_args), context, task.name)
    if not SOURCES[task.source].module.startswith("sn37."):  # one of ours may draw a short sample twice, for everybody
        _check_distinct(task, samples)
    return Samples(samples)


def _check_distinct(task: EvalTask, samples: Sequence[Sample]) -> None:
    """Raise ConfigError where a source of one's own repeats itself: the same sample would count as two."""
    seen: set[str] = set()
    for place, sample in enumerate(samples):
        text = digest((sample,))
        if text in seen:
            raise ConfigError(
                f"task {task.name}: the source {task.source} gave sample {place} twice; expected each once"
            )
        seen.add(text)


def _context(task: EvalTask, seed: int, data: Data) -> Context:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ConfigError(f"seed is {seed!r}; expected a whole number")

    def trusted(netuid: int, min_stake: float) -> frozenset[str]:
        if callable(data.trusted):
            return data.trusted(netuid, min_stake)
        if not data.trusted:
            raise ConfigError(
                f"task {task.name}: {task.source} takes only what trusted validators of subnet {netuid} wrote; name "
                "their hotkeys: sn37.Data(trusted=[...])"
            )
        return frozenset(data.trusted)

    def runs(project: str, since: datetime, until: datetime) -> Sequence[Run]:
        raise ConfigError(
            f"task {task.name}: {task.source} reads signed wandb runs, which only a validator's epoch does"
        )

    return Context(
        generator=generator(seed, task.name),
        as_of=data.as_of or datetime.now(UTC),
        datasets=cast("DatasetReader", _Deferred(functools.cache(data.reader))),
        runs=runs,
        trusted=trusted,
        verify=lambda message, signature, hotkey: False,
    )


class _Deferred:
    """Something that is made when it is first asked for anything: a generated task touches no disk."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> object:
        return getattr(self._make(), name)


def evaluate(
    models: Sequence[str | Path] | Mapping[str, str | Path],
    tasks: Sequence[EvalTask] | Competition,
    seed: int,
    *,
    data: Data | None = None,
    samples: Mapping[str, Sequence[Sample]] | None = None,
    constraints: Constraints | None = None,
    tokenizer: str | Path | None = None,
    device: str = "auto",
    dtype: str = "",
    isolated: bool = False,
) -> LocalResult:
    """Score models on tasks, on the samples and with the engine that a validator would use.

    models: folders, or `user/repo@commit` on the hub; a mapping gives them names. tasks: from `task`, or a whole
    competition, whose constraints and tokenizer then hold. samples: by task, in place of drawn ones. constraints: what
    the models must be; any of the nine architectures without it. tokenizer: a folder or hub repo for all models; each
    brings its own without it. device: `auto`, `cpu` or `cuda`. dtype: that of the constraints without it. isolated:
    each model in a worker with no network; functions of this notebook's cells go along.

    A model that breaks a rule does not stop the others: its reason stands in the result. Raises ConfigError, DataFault
    and HubFault.
    """
    data = data or Data()
    given = tasks.constraints if isinstance(tasks, Competition) else constraints or ANY_MODEL
    chosen = tuple(tasks.tasks if isinstance(tasks, Competition) else tasks)
    if not chosen:
        raise ConfigError("no task to evaluate on; expected one or more, from sn37.task")
    named = named_models(models)
    drawn = {one.name: Samples((samples or {}).get(one.name) or draw(one, seed, data)) for one in chosen}
    evaluation = tasks.evaluation if isinstance(tasks, Competition) else Evaluation()
    with contextlib.ExitStack() as stack:
        shared = tokenizer_folder(tokenizer or given.tokenizer, data)
        job = Job(
            model=Path(),
            tokenizer=shared,
            constraints=given,
            evaluation=evaluation,
            tasks=tuple(Task(t.name, t.method, t.method_args, drawn[t.name]) for t in chosen),
            device=chosen_device(device),
            dtype=dtype,
        )
        run = stack.enter_context(_worker(job) if isolated else in_process())
        progress = stack.enter_context(Progress(len(named)))
        measured: dict[str, Measurement | ModelFault] = {}
        for name, model in named.items():
            try:
                folder = stack.enter_context(model_folder(model, data))
                measured[name] = run(replace(job, model=folder), partial(progress.report, name))
            except ModelFault as fault:
                measured[name] = fault
            progress.finished(name)
    return LocalResult(chosen, drawn, measured, seed)


def named_models(models: Sequence[str | Path] | Mapping[str, str | Path]) -> dict[str, str | Path]:
    """The models by name. Raises ConfigError for none, or two of one name."""
    named = dict(models) if isinstance(models, Mapping) else {_name(model): model for model in models}
    if not named or len(named) != len(models):
        raise ConfigError(f"the models are {list(models)}; expected one or more, each with a name of its own")
    return named


def _name(model: str | Path) -> str:
    text = str(model)
    return text.split("@")[0] if _AT_COMMIT.fullmatch(text) else Path(text).name or text


@contextlib.contextmanager
def model_folder(model: str | Path, data: Data) -> Iterator[Path]:
    """The model's folder, fetched where it is on the hub. Raises ConfigError where there is none."""
    text = str(model)
    if isinstance(model, str) and _AT_COMMIT.fullmatch(text) and not Path(text).exists():
        lease = data.hub().fetch_commit(*text.split("@"))
        try:
            yield lease.folder
        finally:
            lease.close()
        return
    folder = Path(model).expanduser()
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{text} is no model; expected a folder with config.json, or user/repo@<full commit>")
    yield folder.absolute()


def tokenizer_folder(given: str | Path | None, data: Data) -> Path | None:
    if given is None:
        return None
    if Path(given).is_dir():
        return Path(given).absolute()
    return data.hub().fetch_tokenizer(str(given), data.as_of)[0]


def chosen_device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device is {device!r}; expected auto, cpu or cuda")
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch sees no CUDA device here; expected auto or cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


Measure = Callable[[Job, Callable[[Mapping[str, object]], None]], Measurement]
"""Measures one model."""


@contextlib.contextmanager
def in_process() -> Iterator[Measure]:
    """In this process, whose settings of torch are afterwards as they were."""
    import torch
    from transformers.utils import logging

    matmul = torch.backends.cuda.matmul
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    reduced = matmul.allow_bf16_reduced_precision_reduction, matmul.allow_fp16_reduced_precision_reduction
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of loading weights: there is one of ours
    try:
        yield measure
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        matmul.allow_bf16_reduced_precision_reduction, matmul.allow_fp16_reduced_precision_reduction = reduced
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextlib.contextmanager
def _worker(job: Job) -> Iterator[Measure]:
    """In workers of a process of their own, to which methods defined in cells go by cloudpickle."""
    from sn37.evaluation.run import FUNCTION, preloaded
    from sn37.methods import METHODS
    from sn37.records.codec import typed
    from sn37.workers.isolation import ForkServer, WorkerDied

    cells = {task.method: METHODS[task.method].described for task in job.tasks}
    cells = {name: function for name, function in cells.items() if function.__module__ == "__main__"}
    with ScratchFolder() as scratch, ForkServer(preloaded()) as server:
        pickled = scratch / "cells.pickle" if cells else None
        if pickled is not None:
            import cloudpickle

            pickled.write_bytes(cloudpickle.dumps(cells))

        def run(job: Job, report: Callable[[Mapping[str, object]], None]) -> Measurement:
            payload = replace(job, cells=pickled).payload()
            limit = job.evaluation.time_limit_s
            try:
                found = server.call(FUNCTION, payload, time_limit_s=limit, on_progress=report)
            except WorkerDied as death:
                raise ModelFault(str(death)) from death
            return typed(Measurement, found, "a worker's measurement")

        yield run


def _short(value: object, most: int = 200) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}..."
