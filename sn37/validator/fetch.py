"""The second step of an epoch: its samples and its tokenizer; the models are fetched as they are evaluated."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.clock import generator
from sn37.competition import EvalTask
from sn37.errors import EvaluatorFault, Sn37Error
from sn37.html import table
from sn37.records.epochs import Epoch
from sn37.records.faults import Fault
from sn37.records.manifest import TaskData
from sn37.sample import Sample, digest
from sn37.submission import Submission
from sn37.validator.plan import Plan
from sn37.validator.stages import kept_fault

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import FetchedModel, Hub

__all__ = ["Fetched", "draw", "fetch", "versions"]


@dataclass(frozen=True)
class Fetched:
    """What an epoch's evaluation needs."""

    plan: Plan
    """The plan; its manifest now tells the data too."""
    hub: Hub
    """Where the models come from."""
    samples: Mapping[str, tuple[Sample, ...]]
    """The samples of each task."""
    tokenizer: Path | None
    """The folder of the competition's tokenizer; None where each model brings its own."""

    def model(self, submission: Submission) -> FetchedModel | Fault:
        """A submission's model, or why it cannot be had."""
        assert submission.model is not None, "only well-formed submissions are picked"
        try:
            return self.hub.fetch_model(submission.model, submission.hotkey, self.plan.competition.constraints)
        except Sn37Error as error:
            return Fault.of(error)
        except Exception as error:  # what nobody foresaw is tied to this submission, until it meets the others too
            return Fault("submission", Fault.of(error).reason)

    def __repr__(self) -> str:
        counts = ", ".join(f"{data.samples} samples of {name}" for name, data in self.plan.manifest.data.items())
        return f"{self.plan.competition.name} at sync block {self.plan.sync_block}: {counts}"

    def _repr_html_(self) -> str:
        rows = [(name, data.samples, data.digest[:16]) for name, data in self.plan.manifest.data.items()]
        return table(("task", "samples", "digest"), rows)


def fetch(plan: Plan, subnet: Subnet, hub: Hub) -> Fetched:
    """Draw the samples of every task and fetch the tokenizer, pinned as of the sync block.

    Samples drawn before a restart are used again. Raises DataFault, HubFault, ChainFault.
    """
    epoch = plan.epoch
    if epoch.sealed:
        return Fetched(plan, hub, {name: epoch.samples(name) for name in plan.manifest.data}, None)
    with kept_fault(epoch, "fetch"):
        return _fetch(plan, epoch, subnet, hub)


def _fetch(plan: Plan, epoch: Epoch, subnet: Subnet, hub: Hub) -> Fetched:
    manifest, samples = plan.manifest, {}
    for task in plan.competition.tasks:
        known = _known(epoch, task, manifest.data.get(task.name))
        if known is None:
            known, data = draw(plan, task, subnet, hub)
            epoch.write_samples(task.name, known)
            manifest = replace(manifest, data={**manifest.data, task.name: data})
            epoch.write(manifest)
        samples[task.name] = known
    folder, commit = None, None
    if plan.competition.constraints.tokenizer is not None:
        folder, commit = hub.fetch_tokenizer(plan.competition.constraints.tokenizer, manifest.as_of)
    manifest = replace(manifest, tokenizer=commit, versions=versions())
    epoch.write(manifest)
    return Fetched(replace(plan, manifest=manifest), hub, samples, folder)


def versions() -> dict[str, str]:
    """What could change a number: Python, the platform, and the packages that compute."""
    packages = ("sn37", "torch", "transformers", "tokenizers", "safetensors", "pyarrow", "bittensor")
    found = {name: metadata.version(name) for name in packages}
    return {**found, "python": platform.python_version(), "machine": platform.machine()}


def draw(plan: Plan, task: EvalTask, subnet: Subnet, hub: Hub) -> tuple[tuple[Sample, ...], TaskData]:
    """Draw one task's samples; returns them and where they came from."""
    from sn37.chain import verify
    from sn37.data import PinnedDatasets, WandbRuns
    from sn37.sources import SOURCES, Context, draw_samples

    began, manifest = time.monotonic(), plan.manifest
    cache, network = plan.settings.root / "cache" / "datasets", plan.settings.worker_network
    limit = plan.settings.keep.datasets_bytes
    datasets = PinnedDatasets(hub, manifest.as_of, cache, max_cache_bytes=limit, worker_network=network)
    context = Context(
        generator=generator(manifest.seed, task.name),
        as_of=manifest.as_of,
        datasets=datasets,
        runs=WandbRuns(plan.settings.runs_url or ""),
        trusted=lambda netuid, min_stake: subnet.trusted(netuid, min_stake, plan.sync_block),
        verify=verify,
    )
    samples = draw_samples(SOURCES[task.source](**task.source_args), context, task.name)
    return samples, TaskData(
        digest=digest(samples),
        samples=len(samples),
        dropped=dict(context.dropped),
        notes=context.notes,
        revisions=dict(datasets.revisions),
        seconds=time.monotonic() - began,
    )


def _known(epoch: Epoch, task: EvalTask, data: TaskData | None) -> tuple[Sample, ...] | None:
    if data is None:
        return None
    samples = epoch.samples(task.name)
    if digest(samples) != data.digest:
        raise EvaluatorFault(f"the samples of {task.name} in {epoch.folder} were changed; remove the folder")
    return samples
