"""Evaluations on a Ray cluster, https://docs.ray.io: one task per model, wherever there is room for it.

Each task is a fresh process on some node which runs the model in the same isolated worker as on one machine
(`sn37.workers.ray_node`), so the digits are the same on the same kind of device. A worker or a node that is lost
means that the model is evaluated again elsewhere. Nothing but JSON text goes there and back.

Files do not travel: the folders that payloads name must be on storage which every node mounts at the same path.
Does not protect the cluster: whoever reaches Ray's ports runs what they like there, so keep them on a private network.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sn37.errors import ConfigError, EvaluatorFault
from sn37.workers import ray_node
from sn37.workers.executors import Limits, OnProgress, Outcome
from sn37.workers.isolation import WorkerDied
from sn37.workers.ray_node import Room
from sn37.workers.sandbox import Network

__all__ = ["RayExecutor"]

_LOST_ATTEMPTS = 3
_NOBODY_LEFT_S = 60.0
_POLL_S = 0.5


@dataclass
class _Task:
    """One payload on its way. lost, killed: how often its node or Ray's process, or its worker, went."""

    key: str
    request: str
    lost: int = 0
    killed: int = 0


@dataclass
class _Run:
    """One call of `run`: its tasks by their Ray references, and the progress that waits to be read."""

    function: Any
    tasks: dict[Any, _Task] = field(default_factory=dict)
    mail: Any = None
    letter: Any = None


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
            self._ray: Any = importlib.import_module("ray")
        except ModuleNotFoundError:
            raise ConfigError(f"the executor {name!r} needs Ray: pip install 'sn37[ray]'") from None
        self.name, self.modules, self.network = name, tuple(modules), network
        self._owned = not self._ray.is_initialized()
        if self._owned:
            _connect(self._ray, name, cores)
        elif name != "ray":
            raise ConfigError(f"this process is in a Ray cluster already: leave it with ray.shutdown() before {name!r}")
        try:
            self.room = Room.of(devices, self._nodes())
            self._check_room()
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
        self,
        function: str,
        payloads: Iterable[tuple[str, Mapping[str, Any]]],
        limits: Limits,
        on_progress: OnProgress | None = None,
    ) -> Iterator[tuple[str, Outcome]]:
        """(key, outcome) of each payload, as they finish; one more payload than there are workers is asked for."""
        remote = self._ray.remote(num_cpus=self.room.cpus, num_gpus=self.room.gpus, max_calls=1, max_retries=0)
        run = _Run(remote(ray_node.on_node))
        if on_progress is not None:
            run.mail = self._ray.remote(num_cpus=0)(_Mail).remote()
        try:
            for key, payload in payloads:
                self._submit(run, _Task(key, self._request(function, payload, limits)))
                yield from self._finished(run, limits, on_progress, most=self._workers())
            yield from self._finished(run, limits, on_progress, most=0)
        finally:
            for reference in run.tasks:  # the consumer stopped or failed: end the workers
                with suppress(Exception):
                    self._ray.cancel(reference, force=True)
            if run.mail is not None:
                with suppress(Exception):
                    self._ray.kill(run.mail)

    def _request(self, function: str, payload: Mapping[str, Any], limits: Limits) -> str:
        device = "cuda" if self.room.gpus else "cpu"
        return json.dumps(
            {
                "function": function,
                "payload": {**payload, "device": device, "threads": self.room.cpus},
                "modules": self.modules,
                "network": self.network,
                "versions": ray_node.versions(),
                "files": ray_node.files_of(payload),
                "time_limit_s": limits.time_limit_s,
                "memory_bytes": limits.memory_bytes,
                "cpus": self.room.cpus,
                "gpus": self.room.gpus,
            },
            allow_nan=False,
        )

    def _submit(self, run: _Run, task: _Task) -> None:
        run.tasks[run.function.remote(task.request, task.key, run.mail)] = task

    def _finished(
        self, run: _Run, limits: Limits, on_progress: OnProgress | None, *, most: int
    ) -> Iterator[tuple[str, Outcome]]:
        """What has finished; waits while more than `most` tasks are under way."""
        seen = time.monotonic()
        while run.tasks:
            crowded = len(run.tasks) > most
            ready, _ = self._ray.wait(list(run.tasks), num_returns=1, timeout=_POLL_S if crowded else 0)
            self._read_mail(run, on_progress)
            for reference in ready:
                task = run.tasks.pop(reference)
                outcome = self._outcome(reference, task, limits)
                if outcome is None:
                    self._submit(run, task)
                else:
                    yield task.key, outcome
            if not crowded and not ready:
                return
            if self._workers():
                seen = time.monotonic()
            elif time.monotonic() - seen > _NOBODY_LEFT_S:
                raise EvaluatorFault(f"no node is left with room for {self.room}: {self._described()}")

    def _outcome(self, reference: Any, task: _Task, limits: Limits) -> Outcome | None:
        """What came of a task; None where it has to be tried again elsewhere."""
        errors = self._ray.exceptions
        try:
            outcome = ray_node.unpacked(self._ray.get(reference))
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            return EvaluatorFault(f"a node of the cluster could not run the task: {_last_line(error)}")
        except errors.RayError as error:
            task.lost += 1
            if task.lost < _LOST_ATTEMPTS:
                return None
            return WorkerDied("lost", f"{task.lost} nodes or processes of the cluster were lost: {_last_line(error)}")
        if isinstance(outcome, WorkerDied) and outcome.kind in ("signal", "lost"):
            task.killed += 1
            return None if task.killed < limits.attempts else outcome
        return outcome

    def _read_mail(self, run: _Run, on_progress: OnProgress | None) -> None:
        """Pass on what workers have reported, without ever waiting for it."""
        if run.mail is None or on_progress is None:
            return
        if run.letter is not None and self._ray.wait([run.letter], timeout=0)[0]:
            letter, run.letter = run.letter, None
            with suppress(self._ray.exceptions.RayError):
                for key, message in json.loads(self._ray.get(letter)):
                    on_progress(key, message)
        if run.letter is None:
            with suppress(self._ray.exceptions.RayError):
                run.letter = run.mail.take.remote()

    def _nodes(self) -> list[dict[str, float]]:
        return [dict(node["Resources"]) for node in self._ray.nodes() if node["Alive"]]

    def _workers(self) -> int:
        """How many can run at once, now."""
        there = sum(self.room.on(node) for node in self._nodes())
        return min(there, self.room.workers) if self.room.workers else there

    def _check_room(self) -> None:
        there = self._workers()
        if there < max(self.room.workers, 1):
            raise ConfigError(
                f"the executor {self.name!r} was asked for {self.room}; the Ray cluster has room for {there}, on "
                f"{self._described()}: add nodes, or ask for fewer `workers` or another `device`"
            )

    def _described(self) -> str:
        nodes = sorted(f"{node.get('CPU', 0):g} CPUs {node.get('GPU', 0):g} GPUs" for node in self._nodes())
        return f"{len(nodes)} node{'s' * (len(nodes) != 1)}: {', '.join(nodes) or 'none alive'}"


class _Mail:
    """Where workers leave what they report; a Ray actor. Old messages make way for new ones."""

    def __init__(self) -> None:
        self._messages: deque[tuple[str, dict[str, Any]]] = deque(maxlen=1000)

    def put(self, key: str, message: str) -> None:
        self._messages.append((key, json.loads(message)))

    def take(self) -> str:
        messages = list(self._messages)
        self._messages.clear()
        return json.dumps(messages)


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
