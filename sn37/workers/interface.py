"""What an executor is: it takes payloads as they come, and gives outcomes as they finish.

While one payload is evaluated the next is asked for, so that fetching overlaps with evaluating. Knows nothing of
what payloads mean, nor where they run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from sn37.workers.isolation import Cancel
from sn37.workers.outcome import Message, Outcome, WorkerDied

__all__ = ["Executor", "Limits", "OnProgress", "Outcome", "Payload", "Payloads", "in_parallel", "retried"]

Payload = Mapping[str, object]
Payloads = Iterable[tuple[str, Payload]]
"""Keys and JSON data."""

OnProgress = Callable[[str, Message], None]
"""Called with a payload's key and what its worker reports."""

_LOST_ATTEMPTS = 3
_POLL_S = 0.5


@dataclass(frozen=True)
class Limits:
    """What one evaluation may take."""

    time_limit_s: float
    memory_bytes: int | None = None
    """None for the executor's own share of the machine, or no limit."""
    attempts: int = 2
    """How often a payload is tried whose worker was killed from outside."""


class Executor(Protocol):
    """Runs a function over payloads, each in a process of its own."""

    def run(
        self, function: str, payloads: Payloads, limits: Limits, on_progress: OnProgress | None = None
    ) -> Iterator[tuple[str, Outcome]]:
        """(key, outcome) of each payload, in the order they finish. `payloads` is read lazily."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


def in_parallel(
    payloads: Payloads,
    start: Callable[[str, Payload], Callable[[], Outcome]],
    workers: Callable[[], int],
    max_workers: int,
    cancel: Cancel,
) -> Iterator[tuple[str, Outcome]]:
    """(key, outcome) of each payload, as they finish; one more payload than there are workers is asked for.

    start: called in the order of the payloads; what it returns is called in a thread and gives the outcome. workers:
    how many there are now; max_workers: ever. Whoever stops reading ends those at work through `cancel`.
    """

    def keyed(key: str, wait_for: Callable[[], Outcome]) -> tuple[str, Outcome]:
        return key, wait_for()

    waiting: set[Future[tuple[str, Outcome]]] = set()
    with ThreadPoolExecutor(max_workers, "evaluation") as pool:
        try:
            for key, payload in payloads:
                waiting.add(pool.submit(keyed, key, start(key, payload)))
                # What has finished is handed out before the next is asked for; a full house waits.
                done, waiting = wait(waiting, 0, FIRST_COMPLETED)
                yield from (future.result() for future in done)
                while len(waiting) > workers():
                    done, waiting = wait(waiting, _POLL_S, FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, None, FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BaseException:
            # The consumer stopped or failed: end the workers rather than wait for them.
            cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def retried(attempt: Callable[[], Outcome], attempts: int, cancel: Cancel) -> Outcome:
    """The outcome of the first attempt whose worker was neither killed from outside nor lost with its machine."""
    most, deaths = {"signal": attempts, "lost": _LOST_ATTEMPTS}, Counter[str]()
    while True:
        outcome = attempt()
        if not isinstance(outcome, WorkerDied) or cancel.asked:
            return outcome
        deaths[outcome.kind] += 1
        if deaths[outcome.kind] >= most.get(outcome.kind, 1):
            return outcome
