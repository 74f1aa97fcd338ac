"""The third step of an epoch: every chosen model on every sample, each in a process of its own.

A finished result is written at once; a restart evaluates only what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.evaluation.progress import Progress
from sn37.html import table
from sn37.records.decision import Score
from sn37.records.epochs import Epoch
from sn37.records.faults import Fault, Waits
from sn37.records.manifest import Pick
from sn37.records.results import Basis, Measurement, Result
from sn37.submission import Submission
from sn37.validator.fetch import Fetched, versions
from sn37.validator.plan import Plan
from sn37.validator.scores import scores_of
from sn37.validator.settings import Settings
from sn37.validator.stages import kept_fault

if TYPE_CHECKING:
    from sn37.hub import FetchedModel
    from sn37.workers.executors import Executor, Limits

__all__ = ["Evaluated", "evaluate"]

MEMORY_SHARE = 0.8
"""The share of the machine's memory that all workers together may take."""


@dataclass(frozen=True)
class Evaluated:
    """What the models made of the samples, as the notebook shows it."""

    plan: Plan
    """The plan."""
    by_hotkey: Mapping[str, Result]
    """Each evaluated submission's result, by hotkey."""
    set_aside: Mapping[str, str]
    """Submissions that could not be had this time and why, by hotkey."""

    @property
    def scores(self) -> tuple[Score, ...]:
        """Each one's score, the best first; failed ones last."""
        return scores_of(self.plan.competition, self.plan.sync_block, self.by_hotkey.values())

    def __repr__(self) -> str:
        failed = sum(result.fault is not None for result in self.by_hotkey.values())
        return f"{len(self.by_hotkey)} models evaluated, {failed} by their own fault without a score"

    def _repr_html_(self) -> str:
        rows = []
        for score in self.scores:
            tasks = self.by_hotkey[score.hotkey].tasks.values()
            seconds, tokens = sum(task.seconds for task in tasks), sum(task.tokens for task in tasks)
            fault = score.fault.reason if score.fault else ""
            rows.append((score.uid, score.score, f"{seconds:.1f}", f"{tokens:,}", fault))
        return table(("uid", "loss", "seconds", "tokens", "fault of the model"), rows)


def evaluate(fetched: Fetched, executor: Executor | None = None) -> Evaluated:
    """Evaluate the chosen models, the next one fetched meanwhile; a sealed epoch is read back.

    executor: where the workers run; the settings say it when None. Raises the first fault that is not a
    model's own, after all others are evaluated; the epoch stays undecided and what was finished is kept. A submission
    that cannot be had while others can is waited for twice, then set aside.
    """
    plan, epoch = fetched.plan, fetched.plan.epoch
    if epoch.sealed:
        return Evaluated(plan, epoch.results, epoch.decision.set_aside)
    with kept_fault(epoch, "evaluate"):
        basis = _basis(plan)
        done = _finished(plan, epoch, basis)
        missing = [pick for pick in plan.chosen if pick.submission.hotkey not in done]
        faults: dict[str, Fault] = {}
        for pick, model, outcome in _outcomes(fetched, missing, executor):
            if isinstance(outcome, Fault) and not outcome.decides:
                faults[pick.submission.hotkey] = outcome
                continue
            result = _result(pick.submission, basis, model, outcome)
            epoch.write(result)
            done[result.hotkey] = result
        return Evaluated(plan, done, _set_aside(epoch, faults, alone=not done))


def _set_aside(epoch: Epoch, faults: Mapping[str, Fault], alone: bool) -> dict[str, str]:
    """The submissions the epoch has waited for long enough, and why, by hotkey (protocol, section 7).

    faults: what kept submissions from being evaluated in this run; alone: whether none has been in any run. Raises the
    first fault that the epoch must wait for: one that is not tied to its submission, or that meets them all.
    """
    for fault in faults.values():
        if fault.owner != "submission" or (alone and len(faults) > 1):
            raise fault.error()
    waits = epoch.read(Waits) or Waits()
    for hotkey in faults:
        waits = waits.add(hotkey)
    if faults:
        epoch.write(waits)
    for hotkey, fault in faults.items():
        if not waits.over(hotkey):
            raise fault.error()
    return {hotkey: fault.reason for hotkey, fault in faults.items()}


def _outcomes(
    fetched: Fetched, picks: list[Pick], executor: Executor | None
) -> Iterator[tuple[Pick, FetchedModel | None, Measurement | Fault]]:
    """(pick, model, measurement or fault) as they are had: what cannot be fetched needs no worker."""
    from sn37.evaluation.job import Job
    from sn37.evaluation.run import evaluate_all

    plan = fetched.plan
    if not picks:
        return
    by_hotkey = {pick.submission.hotkey: pick for pick in picks}
    models: dict[str, FetchedModel] = {}
    unfetched: list[tuple[Pick, Fault]] = []
    samples = {task.name: plan.epoch.samples_file(task.name) for task in plan.competition.tasks}

    def jobs() -> Iterator[tuple[str, Job]]:
        for pick in picks:
            model = fetched.model(pick.submission)
            if isinstance(model, Fault):
                unfetched.append((pick, model))
                progress.finished(pick.submission.hotkey)
                continue
            models[pick.submission.hotkey] = model
            job = Job.of(plan.competition, model.folder, samples, fetched.tokenizer, plan.settings.tasks)
            yield pick.submission.hotkey, job

    with Progress(len(picks)) as progress, _workers(plan, executor) as (running, limits):
        control = plan.settings.control or plan.settings.root / "cache" / "control"
        for hotkey, outcome in evaluate_all(running, jobs(), limits, control=control, on_progress=progress.report):
            progress.finished(hotkey)
            models[hotkey].close()
            result = Fault.of(outcome) if isinstance(outcome, Exception) else outcome
            yield by_hotkey[hotkey], models[hotkey], result
    for pick, fault in unfetched:
        yield pick, None, fault


@contextmanager
def _workers(plan: Plan, given: Executor | None) -> Iterator[tuple[Executor, Limits]]:
    """The given executor, left open, or the one of the settings, closed afterwards; and what a worker may take."""
    from sn37.evaluation.run import preloaded
    from sn37.workers.executors import Limits, open_executor

    devices = _devices(plan.settings)
    # The nodes of a cluster share out memory of their own.
    memory = int(_memory_bytes() * MEMORY_SHARE / len(devices)) if plan.settings.executor == "local" else None
    limits = Limits(plan.competition.evaluation.time_limit_s, memory)
    if given is not None:
        yield given, limits
        return
    modules = preloaded(plan.competition.constraints.architectures)
    executor = open_executor(plan.settings.executor, devices, modules, plan.settings.worker_network)
    try:
        yield executor, limits
    finally:
        executor.close()


def _devices(settings: Settings) -> tuple[str, ...]:
    """One entry per worker: every GPU there is, or the CPU workers asked for (one, sharing all cores).

    Of a cluster only the kind is known here; where no number of workers is set, it has as many as there is room for.
    """
    if settings.executor != "local":
        return (settings.device,) * settings.workers or (f"{settings.device}:*",)
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*"))
    if settings.device == "cuda" or (settings.device == "auto" and gpus):
        count = settings.workers or max(len(gpus), 1)
        return tuple(f"cuda:{index}" for index in range(count))
    return ("cpu",) * (settings.workers or 1)


def _memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _basis(plan: Plan) -> Basis:
    """What the epoch's results rest on."""
    samples = {name: data.digest for name, data in plan.manifest.data.items()}
    return Basis(plan.manifest.competition_digest, samples, versions())


def _finished(plan: Plan, epoch: Epoch, basis: Basis) -> dict[str, Result]:
    """Results of an earlier, interrupted run that still hold: same commitment, competition, samples and versions.

    The others are removed: a record holds nothing that its decision does not rest on.
    """
    wanted = {pick.submission.hotkey: pick.submission for pick in plan.chosen}
    done: dict[str, Result] = {}
    for hotkey, result in epoch.results.items():
        if hotkey in wanted and result.basis == basis and result.is_of(wanted[hotkey]):
            done[hotkey] = result
        else:
            epoch.remove(result)
    return done


def _result(submission: Submission, basis: Basis, model: FetchedModel | None, outcome: Measurement | Fault) -> Result:
    """One model's result as the record keeps it."""
    return Result(
        hotkey=submission.hotkey,
        uid=submission.uid,
        block=submission.block,
        text=submission.text,
        basis=basis,
        fault=outcome if isinstance(outcome, Fault) else None,
        measurement=None if isinstance(outcome, Fault) else outcome,
        content_hash="" if model is None else model.content_hash,
        bytes=0 if model is None else model.bytes,
        finished_at=datetime.now(UTC),
    )
