"""Where evaluations run: this machine, or a Ray cluster (`sn37.workers.ray`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from queue import SimpleQueue

from sn37.errors import ConfigError, Sn37Error
from sn37.workers.interface import Executor, Limits, OnProgress, Payload, Payloads, in_parallel, retried
from sn37.workers.isolation import Cancel, ForkServer
from sn37.workers.outcome import Outcome
from sn37.workers.sandbox import Network

__all__ = ["Executor", "Limits", "LocalExecutor", "OnProgress", "Outcome", "open_executor"]


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
        self, function: str, payloads: Payloads, limits: Limits, on_progress: OnProgress | None = None
    ) -> Iterator[tuple[str, Outcome]]:
        """(key, outcome) of each payload, as they finish; one more payload than there are workers is asked for."""
        self.start()
        cancel = Cancel()
        free: SimpleQueue[str] = SimpleQueue()
        for device in self.devices:
            free.put(device)

        def evaluate(key: str, payload: Payload) -> Outcome:
            device = free.get()
            kind, _, number = device.partition(":")

            def attempt() -> Outcome:
                try:
                    return self._server.call(
                        function,
                        {**payload, "device": kind, "threads": self.threads},
                        time_limit_s=limits.time_limit_s,
                        memory_bytes=limits.memory_bytes,
                        env={"CUDA_VISIBLE_DEVICES": number},
                        on_progress=None if on_progress is None else lambda message: on_progress(key, message),
                        fail_allocations=kind == "cpu",
                        cancel=cancel,
                    )
                except Sn37Error as error:
                    return error

            try:
                return retried(attempt, limits.attempts, cancel)
            finally:
                free.put(device)

        workers = len(self.devices)
        return in_parallel(payloads, lambda *one: partial(evaluate, *one), lambda: workers, workers, cancel)


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
