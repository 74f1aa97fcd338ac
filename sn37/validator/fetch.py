"""The second step of an epoch: its samples, its tokenizer, and the models, one ahead of the evaluation."""

from __future__ import annotations

import json
import platform
import time
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
from sn37.files import write_text
from sn37.html import table
from sn37.records.epochs import Epoch
from sn37.records.faults import Fault
from sn37.records.recall import Pick
from sn37.sample import Sample, digest, from_record, to_record
from sn37.validator.plan import Plan
from sn37.validator.stages import kept_fault

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import FetchedModel, Hub

__all__ = ["Fetched", "ahead", "draw", "fetch", "versions"]

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
        rows = [(name, len(self.samples[name]), data["digest"][:16]) for name, data in self.data.items()]
        return table(("task", "samples", "digest"), rows)


def fetch(plan: Plan, subnet: Subnet, hub: Hub) -> Fetched:
    """Draw the samples of every task and fetch the tokenizer, pinned as of the sync block.

    Samples drawn before a restart are used again. Raises DataFault, HubFault, ChainFault.
    """
    epoch = plan.epoch
    if epoch.sealed:
        data = epoch.manifest["data"]
        samples = {name: tuple(from_record(record) for record in epoch.samples(name)) for name in data}
        return Fetched(plan, hub, samples, None, data)
    with kept_fault(epoch, "fetch"):
        return _fetch(plan, epoch, subnet, hub)


def _fetch(plan: Plan, epoch: Epoch, subnet: Subnet, hub: Hub) -> Fetched:
    manifest: dict[str, Any] = {"data": {}, "data_s": {}, **(epoch.read("manifest.json") or plan.manifest())}
    samples = {}
    for task in plan.competition.tasks:
        known = _known(epoch, task, manifest["data"].get(task.name))
        if known is None:
            began = time.monotonic()
            known, notes = draw(plan, task, subnet, hub)
            lines = [json.dumps(to_record(sample), sort_keys=True) for sample in known]
            write_text(epoch.folder / "samples" / f"{task.name}.jsonl", "\n".join(lines) + "\n")
            manifest["data"][task.name] = {"digest": digest(known), "samples": len(known), **notes}
            manifest["data_s"][task.name] = time.monotonic() - began
            epoch.write("manifest.json", manifest)
        samples[task.name] = known
    folder, commit = None, None
    if plan.competition.constraints.tokenizer is not None:
        folder, commit = hub.fetch_tokenizer(plan.competition.constraints.tokenizer, plan.as_of)
    manifest |= {"tokenizer": commit, "versions": versions()}
    epoch.write("manifest.json", manifest)
    return Fetched(plan, hub, samples, folder, manifest["data"])


def versions() -> dict[str, str]:
    """What could change a number: Python, the platform, and the packages that compute."""
    packages = ("sn37", "torch", "transformers", "tokenizers", "safetensors", "pyarrow", "bittensor")
    found = {name: metadata.version(name) for name in packages}
    return {**found, "python": platform.python_version(), "machine": platform.machine()}


def draw(plan: Plan, task: EvalTask, subnet: Subnet, hub: Hub) -> tuple[tuple[Sample, ...], dict[str, Any]]:
    """Draw one task's samples; returns them and what the manifest says of the data."""
    from sn37.chain import verify
    from sn37.data.pages import PinnedDatasets
    from sn37.data.runs import WandbRuns
    from sn37.sources import SOURCES, Context

    datasets = PinnedDatasets(hub, plan.as_of, plan.settings.root / "cache" / "pages")
    context = Context(
        generator=generator(plan.seed, task.name),
        as_of=plan.as_of,
        datasets=datasets,
        runs=WandbRuns(plan.settings.runs_url or ""),
        trusted=lambda netuid, min_stake: subnet.trusted(netuid, min_stake, plan.sync_block),
        verify=verify,
    )
    samples = tuple(SOURCES[task.source](**task.source_args)(context))
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
