"""An embedded hub that counts what it is asked, and makes trouble when told to.

Counting and faults are a middleware before the real server: it knows nothing of what is served.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sn37.devnet.hub import HubServer


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


class FaultyHub(HubServer):
    """A hub with `stats` of its requests and `faults` still to come; otherwise as `HubServer`."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.stats, self.faults = Stats(), Faults()
        super().__init__(root, middleware=[Middleware(_Watched, self.stats, self.faults)], **options)


class _Watched:
    """The application, counted, and struck by the faults asked for."""

    def __init__(self, app: ASGIApp, stats: Stats, faults: Faults) -> None:
        self.app, self.stats, self.faults = app, stats, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = f"{scope['method']} {scope['path']}"
        fault = self.faults.next(request) or Fault()
        self.stats.requests += 1
        self.stats.authorized += any(name == b"authorization" for name, _ in scope["headers"])
        self.stats.paths.append(request)
        del self.stats.paths[:-1000]
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)

        async def counted_receive() -> Message:
            message = await receive()
            self.stats.bytes_received += len(message.get("body", b""))
            return message

        sender = _Sender(send, scope, self.stats, fault.cut_after)
        if fault.status:
            headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
            answer = JSONResponse({"error": f"injected {fault.status}"}, fault.status, headers)
            await answer(scope, receive, sender)
        else:
            await self.app(scope, counted_receive, sender)


class _Sender:
    """Sends, counts, and stops in the middle where a connection is to be cut.

    A response left unfinished makes the server close the connection. Counted is before it is sent:
    who has the answer finds it in the figures.
    """

    def __init__(self, send: Send, scope: Scope, stats: Stats, cut_after: int) -> None:
        self._send, self._scope, self._stats, self._cut_after = send, scope, stats, cut_after
        self._sent, self._cut = 0, False

    async def __call__(self, message: Message) -> None:
        if self._cut:
            return
        route = f"{self._scope['method']} {_kind(self._scope)}"
        body: bytes = message.get("body", b"")
        if message["type"] == "http.response.start":
            self._stats.by_route[route] += 1
        elif 0 <= self._cut_after <= self._sent + len(body):
            self._cut = True
            body = body[: self._cut_after - self._sent]
            message = {**message, "body": body, "more_body": True}
        self._sent += len(body)
        self._stats.bytes_by_route[route] += len(body)
        self._stats.bytes_sent += len(body)
        await self._send(message)


def _kind(scope: Scope) -> str:
    """The name of the route that answered."""
    route = scope.get("route")
    return str(getattr(route, "name", "unknown"))
