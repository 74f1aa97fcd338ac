"""Evaluations on a Ray cluster, https://docs.ray.io: one task per model, wherever there is room for it.

Each task is a fresh process on some node which runs the model in the same isolated worker as on one machine
(`sn37.workers.ray_node`), so the digits are the same on the same kind of device. A worker or a node that is lost
means that the model is evaluated again elsewhere. Nothing but JSON text goes there and back.

Files do not travel: the folders that payloads name must be on storage which every node mounts at the same path.
Does not protect the cluster: whoever reaches Ray's ports runs what they like there, so keep them on a private network.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from threading import Thread
from typing import Any

from sn37.errors import ConfigError, EvaluatorFault
from sn37.workers import ray_node
from sn37.workers.interface import Limits, OnProgress, Payload, Payloads, in_parallel, retried
from sn37.workers.isolation import Cancel
from sn37.workers.outcome import Outcome, WorkerDied, unpacked
from sn37.workers.ray_node import Resources, Task
from sn37.workers.sandbox import Network

__all__ = ["RayExecutor"]

_MAX_WORKERS = 4096
_NOBODY_LEFT_S = 60.0
_POLL_S = 0.5


class RayExecutor:
    """A Ray cluster, or this machine through Ray.

    name: "ray" for the cluster in RAY_ADDRESS, or else an instance of its own on this machine; "ray://HOST:PORT" for
    a cluster reached from outside, through Ray's client server. devices: as `LocalExecutor`'s, only their kind and
    number count; "cpu:*", "cuda:*" and "auto:*": as many workers as the cluster has room for. cores: CPUs of an
    own instance; network: as `LocalExecutor`'s, on each node. Raises ConfigError at once where the cluster cannot be
    reached or can never give what is asked for.
    """

    def __init__(
        self,
        name: str,
        devices: Sequence[str] = ("cpu",),
        modules: Sequence[str] = (),
        cores: int | None = None,
        network: Network = "isolated",
    ) -> None:
        try:
            self._ray: Any = import_module("ray")
        except ModuleNotFoundError:
            raise ConfigError(f"the executor {name!r} needs Ray: pip install 'sn37[ray]'") from None
        self.modules, self.network = tuple(modules), network
        self._owned = not self._ray.is_initialized()
        if self._owned:
            _connect(self._ray, name, cores)
        elif name != "ray":
            raise ConfigError(f"this process is in a Ray cluster already: leave it with ray.shutdown() before {name!r}")
        try:
            self.resources = Resources.of(devices, self._nodes())
            if self._workers() < max(self.resources.workers, 1):
                raise ConfigError(
                    f"the executor {name!r} was asked for {self.resources}; the Ray cluster has room for "
                    f"{self._workers()}, on {self._described()}: add nodes, or ask for fewer `workers` or another "
                    "`device`"
                )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; an instance of its own ends. A connection that was there before stays."""
        if self._owned:
            self._ray.shutdown()

    def run(
        self, function: str, payloads: Payloads, limits: Limits, on_progress: OnProgress | None = None
    ) -> Iterator[tuple[str, Outcome]]:
        """(key, outcome) of each payload, as they finish; one more payload than there are workers is asked for."""
        resources = {"num_cpus": self.resources.cpus, "num_gpus": self.resources.gpus}
        remote = self._ray.remote(**resources, max_calls=1, max_retries=0)(ray_node.on_node)
        cancel = Cancel()
        reports = None
        if on_progress is not None:
            reports = import_module("ray.util.queue").Queue(actor_options={"num_cpus": 0})
            Thread(target=_pass_on, args=(reports, on_progress), daemon=True).start()

        def start(key: str, payload: Payload) -> Callable[[], Outcome]:
            submit = partial(remote.remote, self._task(function, payload, limits).to_json(), key, reports)
            submitted = [submit()]  # here and now: threads would race for the place in Ray's queue

            def attempt() -> Outcome:
                return self._outcome(submitted.pop() if submitted else submit(), cancel)

            return partial(retried, attempt, limits.attempts, cancel)

        try:
            yield from in_parallel(payloads, start, self._workers, _MAX_WORKERS, cancel)
        finally:
            if reports is not None:
                reports.shutdown(force=True)

    def _task(self, function: str, payload: Payload, limits: Limits) -> Task:
        device = "cuda" if self.resources.gpus else "cpu"
        return Task(
            function=function,
            payload={**payload, "device": device, "threads": self.resources.cpus},
            modules=self.modules,
            network=self.network,
            versions=ray_node.versions(),
            files=ray_node.files_of(payload),
            time_limit_s=limits.time_limit_s,
            memory_bytes=limits.memory_bytes,
            cpus=self.resources.cpus,
            gpus=self.resources.gpus,
        )

    def _outcome(self, reference: Any, cancel: Cancel) -> Outcome:
        """What came of one task."""
        errors = self._ray.exceptions
        seen = time.monotonic()
        try:
            while not self._ray.wait([reference], timeout=_POLL_S)[0]:
                if self._workers():
                    seen = time.monotonic()
                abandoned = time.monotonic() - seen > _NOBODY_LEFT_S
                if cancel.asked or abandoned:
                    self._ray.cancel(reference, force=True)
                    why = f"no node is left with room for {self.resources}: {self._described()}"
                    return EvaluatorFault(why if abandoned else "the evaluation was stopped")
            return unpacked(json.loads(self._ray.get(reference)))
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            return EvaluatorFault(f"a node of the cluster could not run the task: {_last_line(error)}")
        except errors.RayError as error:
            return WorkerDied("lost", f"a node or a process of the cluster was lost: {_last_line(error)}")

    def _nodes(self) -> list[dict[str, float]]:
        return [dict(node["Resources"]) for node in self._ray.nodes() if node["Alive"]]

    def _workers(self) -> int:
        """How many can run at once, now."""
        there = sum(self.resources.workers_on(node) for node in self._nodes())
        return min(there, self.resources.workers) if self.resources.workers else there

    def _described(self) -> str:
        nodes = sorted(f"{node.get('CPU', 0):g} CPUs {node.get('GPU', 0):g} GPUs" for node in self._nodes())
        return f"{len(nodes)} node{'s' * (len(nodes) != 1)}: {', '.join(nodes) or 'none alive'}"


def _pass_on(reports: Any, on_progress: OnProgress) -> None:
    """Pass on what workers report, until the queue is gone; what its node took along is missed by nobody."""
    with suppress(Exception):
        while True:
            key, message = json.loads(reports.get())
            on_progress(key, message)


def _connect(ray: Any, name: str, cores: int | None) -> None:
    """Join the cluster, or start an instance on this machine."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    # Ray's own news for its makers; and GPUs stay visible or hidden as the worker's environment says.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = name if name != "ray" else os.environ.get("RAY_ADDRESS", "")
    try:
        if address:
            _knock(address)  # Ray itself would go on trying for minutes
            ray.init(address, **quiet)
        else:
            ray.init("local", num_cpus=cores or len(os.sched_getaffinity(0)), include_dashboard=False, **quiet)
    except Exception as error:
        where = address or "this machine"
        raise ConfigError(f"no Ray cluster answers at {where}: {_last_line(error)}; start it first") from error


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT or ray://HOST:PORT."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:500]
