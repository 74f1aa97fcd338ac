"""The second step of an epoch: its samples, its tokenizer, and the models, one ahead of the evaluation."""

from __future__ import annotations

import json
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sn37.clock import generator
from sn37.competition import EvalTask
from sn37.errors import EvaluatorFault
from sn37.sample import Sample, digest, from_record, to_record
from sn37.validator.contenders import Pick
from sn37.validator.faults import Fault
from sn37.validator.plan import Plan
from sn37.validator.records import Epoch, write_text
from sn37.validator.stages import undecided_on_fault

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import FetchedModel, Hub

__all__ = ["Fetched", "ahead", "draw", "fetch"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Fetched:
    """What an epoch's evaluation needs. samples: by task; tokenizer: its folder, None where each model
    brings its own; data: per task, what the manifest says of its samples."""

    plan: Plan
    hub: Hub
    samples: Mapping[str, tuple[Sample, ...]]
    tokenizer: Path | None
    data: Mapping[str, Mapping[str, Any]]

    def models(self, picks: Iterable[Pick]) -> Iterator[tuple[Pick, FetchedModel | Fault]]:
        """The models, or why one cannot be had, in the order asked for; the next one is fetched meanwhile."""

        def fetch_one(pick: Pick) -> FetchedModel | Fault:
            submission = pick.submission
            assert submission.model is not None, "only well-formed submissions are picked"
            try:
                return self.hub.fetch_model(submission.model, submission.hotkey, self.plan.competition.constraints)
            except Exception as error:
                return Fault.of(error)

        return ahead(picks, fetch_one)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{name}</td><td>{len(self.samples[name])}</td><td><code>{data['digest'][:16]}</code></td></tr>"
            for name, data in self.data.items()
        )
        head = "<tr><th>task</th><th>samples</th><th>digest</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def fetch(plan: Plan, subnet: Subnet, hub: Hub) -> Fetched:
    """Draw the samples of every task and fetch the tokenizer, pinned as of the sync block.

    Samples drawn before a restart are used again. Raises DataFault, HubFault, ChainFault.
    """
    if plan.epoch.sealed:
        return _read_back(plan, hub)
    with undecided_on_fault(plan.epoch, "fetch"):
        return _fetch(plan, subnet, hub)


def _read_back(plan: Plan, hub: Hub) -> Fetched:
    data = plan.epoch.manifest["data"]
    samples = {
        task.name: tuple(from_record(r) for r in plan.epoch.samples(task.name)) for task in plan.competition.tasks
    }
    return Fetched(plan, hub, samples, None, data)


def _fetch(plan: Plan, subnet: Subnet, hub: Hub) -> Fetched:
    constraints = plan.competition.constraints
    data: dict[str, Any] = dict(plan.epoch.read("data.json") or {})
    samples = {}
    for task in plan.competition.tasks:
        known = _known(plan.epoch, task, data.get(task.name))
        if known is None:
            known, notes = draw(plan, task, subnet, hub)
            lines = [json.dumps(to_record(sample), sort_keys=True) for sample in known]
            write_text(plan.epoch.folder / "samples" / f"{task.name}.jsonl", "\n".join(lines) + "\n")
            data[task.name] = {"digest": digest(known), "samples": len(known), **notes}
            plan.epoch.write("data.json", data)
        samples[task.name] = known
    folder = None
    if constraints.tokenizer is not None:
        folder, commit = hub.fetch_tokenizer(constraints.tokenizer, plan.as_of)
        if data.get("tokenizer") != commit:
            plan.epoch.write("data.json", data := {**data, "tokenizer": commit})
    per_task = {task.name: data[task.name] for task in plan.competition.tasks}
    manifest = {"data": per_task, "tokenizer": data.get("tokenizer"), "versions": _versions()}
    plan.epoch.write("manifest.json", {**plan.manifest(), **manifest})
    return Fetched(plan, hub, samples, folder, per_task)


def _versions() -> dict[str, str]:
    """What could change a number: Python, the platform, and the packages that compute."""
    packages = ("sn37", "torch", "transformers", "tokenizers", "safetensors", "pyarrow", "bittensor")
    found = {name: metadata.version(name) for name in packages}
    return {**found, "python": platform.python_version(), "machine": platform.machine()}


def draw(plan: Plan, task: EvalTask, subnet: Subnet, hub: Hub) -> tuple[tuple[Sample, ...], dict[str, Any]]:
    """Draw one task's samples; returns them and what the manifest says of the data."""
    from sn37.chain import verify
    from sn37.hub import PinnedDatasets
    from sn37.sources import SOURCES, Context
    from sn37.validator.runs import WandbRuns

    datasets = PinnedDatasets(hub, plan.as_of, plan.settings.root / "cache" / "pages")
    context = Context(
        generator=generator(plan.seed, task.name),
        as_of=plan.as_of,
        datasets=datasets,
        runs=WandbRuns(plan.settings.runs_url or ""),
        trusted=lambda netuid, min_stake: subnet.trusted(netuid, min_stake, plan.sync_block),
        verify=verify,
    )
    samples = tuple(SOURCES[task.source](context, **task.source_args))
    return samples, {"notes": context.notes, "revisions": dict(datasets.revisions)}


def _known(epoch: Epoch, task: EvalTask, data: Mapping[str, Any] | None) -> tuple[Sample, ...] | None:
    if data is None:
        return None
    samples = tuple(from_record(record) for record in epoch.samples(task.name))
    if digest(samples) != data["digest"]:
        raise EvaluatorFault(f"the samples of {task.name} in {epoch.folder} were changed; remove the folder")
    return samples


def ahead(items: Iterable[T], work: Callable[[T], R], lookahead: int = 1) -> Iterator[tuple[T, R]]:
    """`(item, work(item))` in order, with up to `lookahead` later items already under way."""
    with ThreadPoolExecutor(1, thread_name_prefix="fetch") as pool:
        queue: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            queue.append((item, pool.submit(work, item)))
            if len(queue) > lookahead:
                first, future = queue.popleft()
                yield first, future.result()
        while queue:
            first, future = queue.popleft()
            yield first, future.result()
