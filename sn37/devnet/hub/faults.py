"""What the embedded hub counts, and the trouble it can be told to make.

Knows nothing of what is served. Faults are for tests and for trying out how a program behaves when
its hub is ill.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Fault", "Faults", "Stats"]


@dataclass
class Stats:
    """What was asked and sent so far. bytes_sent, bytes_received: bodies only."""

    requests: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    by_route: Counter[str] = field(default_factory=Counter)
    """Requests by `METHOD kind`, as in `GET resolve`."""
    bytes_by_route: Counter[str] = field(default_factory=Counter)
    paths: list[str] = field(default_factory=list)
    """`METHOD path` of the last thousand requests, oldest first."""
    authorized: int = 0
    """Requests that carried a token."""

    def reset(self) -> None:
        """Count from zero again."""
        self.__dict__.update(Stats().__dict__)

    def to_dict(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "authorized": self.authorized,
            "by_route": dict(sorted(self.by_route.items())),
            "bytes_by_route": dict(sorted(self.bytes_by_route.items())),
        }


@dataclass
class Fault:
    """One kind of trouble, for the next `times` requests whose `METHOD path` matches `where`.

    status: answer with it at once (0: do not); retry_after_s: its Retry-After header; delay_s: wait
    before answering; cut_after: send so many bytes of the body, then cut the connection (-1: do
    not); skip: let so many matching requests pass first.
    """

    where: str = ""
    status: int = 0
    retry_after_s: int | None = None
    delay_s: float = 0.0
    cut_after: int = -1
    times: int = 1
    skip: int = 0

    def __post_init__(self) -> None:
        re.compile(self.where)


class Faults:
    """The faults still to come, in the order they were added; safe to change while serving."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    @property
    def left(self) -> int:
        """How many requests are still to be hit."""
        with self._lock:
            return sum(fault.times for fault in self._faults)

    def next(self, request: str) -> Fault | None:
        """The fault that hits this request, counted down."""
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and re.search(fault.where, request):
                    if fault.skip > 0:
                        fault.skip -= 1
                        return None
                    fault.times -= 1
                    return fault
            return None
