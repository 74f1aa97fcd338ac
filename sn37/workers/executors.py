"""Where evaluations run: an executor takes payloads as they come and gives results as they finish.

While one payload is evaluated the next is asked for, so that fetching overlaps with evaluating.
Knows nothing of what the payloads mean.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib import import_module
from queue import SimpleQueue
from typing import Any, Protocol

from sn37.errors import ConfigError, Sn37Error
from sn37.workers.isolation import Cancel, ForkServer, WorkerDied
from sn37.workers.sandbox import Network

__all__ = ["Executor", "Limits", "LocalExecutor", "Outcome", "open_executor"]

Outcome = dict[str, Any] | Sn37Error
"""What a payload came to: the function's result, or the error that stands for it."""

OnProgress = Callable[[str, dict[str, Any]], None]
"""Called with a payload's key and what its worker reports."""


@dataclass(frozen=True)
class Limits:
    """What one evaluation may take. attempts: how often a payload is tried whose worker was killed from outside."""

    time_limit_s: float
    memory_bytes: int | None = None
    attempts: int = 2


class Executor(Protocol):
    """Runs a function over payloads, each in a process of its own."""

    def run(
        self,
        function: str,
        payloads: Iterable[tuple[str, Mapping[str, Any]]],
        limits: Limits,
        on_progress: OnProgress | None = None,
    ) -> Iterator[tuple[str, Outcome]]:
        """(key, outcome) of each payload, in the order they finish. `payloads` is read lazily."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class LocalExecutor:
    """This machine: one worker per entry of `devices`, `"cpu"` or `"cuda:N"`; CPU workers share the cores.

    modules: what workers need, imported once; network: as `ForkServer`'s. Adds `device` and `threads` to each payload.
    """

    def __init__(
        self,
        devices: Sequence[str] = ("cpu",),
        modules: Sequence[str] = (),
        cores: int | None = None,
        network: Network = "isolated",
    ) -> None:
        for device in devices:
            if device != "cpu" and not (device.startswith("cuda:") and device[5:].isdigit()):
                raise ConfigError(f"unknown device {device!r}; expected 'cpu' or 'cuda:N'")
        if not devices:
            raise ConfigError("an executor needs at least one device, such as 'cpu'")
        self.devices = tuple(devices)
        self.threads = max((cores or len(os.sched_getaffinity(0))) // len(self.devices), 1)
        self._server = ForkServer(modules, network)

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin importing what workers need, without waiting for it. Raises ConfigError as `ForkServer.start`."""
        self._server.start()

    def close(self) -> None:
        """End all workers."""
        self._server.close()

    def run(
        self,
        function: str,
        payloads: Iterable[tuple[str, Mapping[str, Any]]],
        limits: Limits,
        on_progress: OnProgress | None = None,
    ) -> Iterator[tuple[str, Outcome]]:
        """(key, outcome) of each payload, as they finish; one more payload than there are workers is asked for."""
        self.start()
        cancel = Cancel()
        free: SimpleQueue[str] = SimpleQueue()
        for device in self.devices:
            free.put(device)

        def evaluate(key: str, payload: Mapping[str, Any]) -> tuple[str, Outcome]:
            device = free.get()
            try:
                return key, self._attempt(function, key, payload, device, limits, on_progress, cancel)
            finally:
                free.put(device)

        waiting: set[Future[tuple[str, Outcome]]] = set()
        with ThreadPoolExecutor(len(self.devices), "evaluation") as pool:
            try:
                for key, payload in payloads:
                    waiting.add(pool.submit(evaluate, key, payload))
                    # What has finished is handed out before the next is asked for; a full house waits.
                    full = len(waiting) > len(self.devices)
                    done, waiting = wait(waiting, None if full else 0, FIRST_COMPLETED)
                    yield from (future.result() for future in done)
                while waiting:
                    done, waiting = wait(waiting, None, FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            except BaseException:
                # The consumer stopped or failed: end the workers rather than wait for them.
                cancel()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _attempt(
        self,
        function: str,
        key: str,
        payload: Mapping[str, Any],
        device: str,
        limits: Limits,
        on_progress: OnProgress | None,
        cancel: Cancel,
    ) -> Outcome:
        """One payload on one device, tried again where its worker was killed by somebody."""
        here = {**payload, "device": device.partition(":")[0], "threads": self.threads}
        env = {"CUDA_VISIBLE_DEVICES": device.partition(":")[2]}
        for attempt in range(limits.attempts):
            try:
                return self._server.call(
                    function,
                    here,
                    time_limit_s=limits.time_limit_s,
                    memory_bytes=limits.memory_bytes,
                    env=env,
                    on_progress=None if on_progress is None else lambda message: on_progress(key, message),
                    fail_allocations=device == "cpu",
                    cancel=cancel,
                )
            except WorkerDied as error:
                if error.kind not in ("signal", "lost") or attempt + 1 == limits.attempts or cancel.asked:
                    return error
            except Sn37Error as error:
                return error
        raise AssertionError("attempts is 1 or more")


def open_executor(
    name: str, devices: Sequence[str] = ("cpu",), modules: Sequence[str] = (), network: Network = "isolated"
) -> Executor:
    """The executor called `name` in a pipeline: "local", "ray" or "ray://ADDRESS". Raises ConfigError."""
    if name == "local":
        return LocalExecutor(devices, modules, network=network)
    if name == "ray" or name.startswith("ray://"):
        opened: Executor = import_module("sn37.workers.ray").RayExecutor(name, devices, modules, network=network)
        return opened
    raise ConfigError(f"unknown executor {name!r}; expected 'local', 'ray' or 'ray://ADDRESS'")
