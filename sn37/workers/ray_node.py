"""What runs on a node of a Ray cluster, and what it takes of it: one payload, in an isolated worker; JSON in and out.

Ray's own process holds no model: it starts the same isolated worker as `sn37.workers.executors.LocalExecutor`
does and ends with it. Before that it makes sure that this node is what the validator takes it for: the same
versions, and the same files at the same paths. A node that is not must never cost a miner anything.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from sn37.errors import ConfigError, EvaluatorFault, Sn37Error
from sn37.workers.isolation import ForkServer
from sn37.workers.outcome import Message, Outcome, packed
from sn37.workers.sandbox import Network

__all__ = ["Resources", "Task", "evaluate", "files_of", "on_node", "versions"]

MEMORY_SHARE = 0.8
"""The share of a node's memory that all workers on it together may take, where the limits name no bytes."""

_FILES_WAIT_S = 30.0
"""How long shared storage may take to show on one machine what another has written."""

Sizes = dict[str, int]
"""Files by their path in a folder ("" for the path itself), with their bytes."""


@dataclass(frozen=True)
class Task:
    """One payload and what a node must be to run it."""

    function: str
    payload: Message
    modules: Sequence[str]
    network: Network
    versions: Mapping[str, str]
    files: Mapping[str, Sizes]
    """The absolute paths that the payload names, and what lies there."""
    time_limit_s: float
    memory_bytes: int | None
    cpus: int
    gpus: int

    def to_json(self) -> str:
        """The task as it travels."""
        return json.dumps(asdict(self), allow_nan=False)


@dataclass(frozen=True)
class Resources:
    """What one worker takes of a node."""

    cpus: int
    gpus: int
    workers: int
    """How many at once were asked for; 0 for as many as there is room for."""

    @classmethod
    def of(cls, devices: Sequence[str], nodes: Sequence[Mapping[str, float]]) -> Resources:
        """Equal parts of the smallest node, for the digits of a sum may depend on the number of threads."""
        kinds = {device.partition(":")[0] for device in devices}
        if len(kinds) != 1 or not kinds <= {"auto", "cpu", "cuda"}:
            raise ConfigError(f"the devices are {list(devices)}; expected all 'cpu', all 'cuda:N', or 'auto:*'")
        (kind,) = kinds
        workers = 0 if devices[0].endswith(":*") else len(devices)
        if kind == "auto":
            kind = "cuda" if any(node.get("GPU", 0) >= 1 for node in nodes) else "cpu"
        fit = [node for node in nodes if node.get("CPU", 0) >= 1 and (kind == "cpu" or node.get("GPU", 0) >= 1)]
        side_by_side = math.ceil(workers / len(fit)) if workers and fit else 1
        if kind == "cuda":
            threads = [node["CPU"] // (min(node["GPU"], side_by_side) if workers else node["GPU"]) for node in fit]
            return cls(max(1, int(min(threads, default=1))), 1, workers)
        return cls(max(1, int(min((node["CPU"] for node in fit), default=1) // side_by_side)), 0, workers)

    def workers_on(self, node: Mapping[str, float]) -> int:
        """How many workers a node has room for at once."""
        by_cpu = int(node.get("CPU", 0) // self.cpus)
        return min(by_cpu, int(node.get("GPU", 0))) if self.gpus else by_cpu

    def __str__(self) -> str:
        models = f"{self.workers or 1} model{'s' * (self.workers > 1)}"
        return f"{models} at once, with {self.cpus} CPU{'s' * (self.cpus > 1)}{' and 1 GPU' * self.gpus} each"


def versions() -> dict[str, str]:
    """What must be equal on all nodes for equal digits."""
    return {name: _version(name) for name in ("sn37", "torch", "transformers", "tokenizers")}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def files_of(payload: Mapping[str, object]) -> dict[str, Sizes]:
    """The folders and files that the payload names by absolute path, and what lies there."""
    named = [value for value in payload.values() if isinstance(value, str) and Path(value).is_absolute()]
    return {value: _sizes(Path(value)) for value in named if Path(value).exists()}


def _sizes(place: Path) -> Sizes:
    if place.is_file():
        return {"": place.stat().st_size}
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.stat().st_size for path in files}


def on_node(text: str, key: str, reports: Any) -> str:
    """The remote function: `evaluate` with this node's memory shared among as many workers as it has room for.

    text: a `Task`; key: the payload's; reports: a queue, or None. Returns the packed outcome.
    """
    import psutil

    ray: Any = import_module("ray")
    task = Task(**json.loads(text))
    here = ray.get_runtime_context().get_node_id()
    resources: dict[str, float] = next((node["Resources"] for node in ray.nodes() if node["NodeID"] == here), {})
    side_by_side = max(1, Resources(task.cpus, task.gpus, 0).workers_on(resources))

    def report(message: Message) -> None:
        with suppress(ray.exceptions.RayError):  # nobody waits for the answer: progress may be lost
            reports.actor.put_nowait.remote(json.dumps([key, message]))

    share = int(psutil.virtual_memory().total * MEMORY_SHARE / side_by_side)
    return json.dumps(packed(evaluate(task, None if reports is None else report, share)))


def evaluate(task: Task, report: Callable[[Message], None] | None, own_memory_bytes: int) -> Outcome:
    """Run a task. own_memory_bytes: what a worker may take on this node where the task names no limit."""
    try:
        _check_versions(task.versions)
        _await_files(task.files)
        with ForkServer(task.modules, task.network) as server:
            try:
                server.start()
            except ConfigError as error:
                raise EvaluatorFault(f"{platform.node()}: {error}") from error
            return server.call(
                task.function,
                task.payload,
                time_limit_s=task.time_limit_s,
                memory_bytes=task.memory_bytes or own_memory_bytes,
                env={"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "") if task.gpus else ""},
                on_progress=report,
                fail_allocations=not task.gpus,
            )
    except Sn37Error as error:
        return error


def _check_versions(expected: Mapping[str, str]) -> None:
    for name, version in versions().items():
        if version != expected[name]:
            raise EvaluatorFault(
                f"{platform.node()} has {name} {version}; expected {expected[name]}, as the validator has: "
                "install the same requirements.lock on every node"
            )


def _await_files(expected: Mapping[str, Sizes]) -> None:
    deadline = time.monotonic() + _FILES_WAIT_S
    for name, sizes in expected.items():
        while not Path(name).exists() or _sizes(Path(name)) != sizes:
            if time.monotonic() > deadline:
                raise EvaluatorFault(
                    f"{name} is not on {platform.node()} what it is for the validator: keep the validator's root "
                    "on storage that every node mounts at the same path"
                )
            time.sleep(0.5)
