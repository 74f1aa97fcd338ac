"""The embedded hub as a server: in this process on a thread, or as a process of its own.

It listens on the loopback interface only, and never asks anything of the network.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sn37.devnet.hub.faults import Fault, Faults, Stats
from sn37.devnet.hub.reads import Reads
from sn37.devnet.hub.storage import Storage
from sn37.devnet.hub.users import Refused, Users, refused
from sn37.devnet.hub.writes import Writes
from sn37.errors import ConfigError, EvaluatorFault

__all__ = ["HubServer"]

_HOST = "127.0.0.1"


def wall_clock() -> datetime:
    """The time of this machine, for a hub that no chain gives the time to."""
    return datetime.now(UTC)


class HubServer:
    """A hub over the folder `root`.

    clock: gives commits their time; port: 0 for any free one. Use it as a context manager, or
    `start` and `stop` it. Raises ConfigError where the port is busy or another process serves the folder.
    """

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = wall_clock, port: int = 0) -> None:
        self.root = Path(root)
        self.stats = Stats()
        self.faults = Faults()
        self._thread: threading.Thread | None = None
        self._socket = _listen(port)
        try:
            self.storage = Storage(self.root, clock)
            self._users = Users(self.root / "tokens.json", self.storage)
        except BaseException:
            self._socket.close()
            raise
        config = uvicorn.Config(
            _Watched(self._app(), self.stats, self.faults),
            log_config=None,
            log_level="critical",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def endpoint(self) -> str:
        """What clients take as their endpoint, `http://127.0.0.1:PORT`."""
        return f"http://{_HOST}:{self.port}"

    def token_of(self, user: str) -> str:
        """A token of the user, made and kept in tokens.json where there is none."""
        return self._users.token_of(user)

    def start(self) -> HubServer:
        """Serve on a thread of this process; returns once requests are answered."""
        port = self.port
        self._thread = threading.Thread(target=self._serve, name=f"hub-{port}", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise EvaluatorFault(f"the hub on port {port} did not start")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Finish the requests under way, then close; safe to call twice."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.storage.close()
        self._socket.close()

    def serve_forever(self) -> None:
        """Serve in this thread until SIGINT or SIGTERM."""
        try:
            self._serve()
        finally:
            self.storage.close()
            self._socket.close()

    def __enter__(self) -> HubServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])

    def _app(self) -> Starlette:
        routes = [
            Route("/_stats", self._show_stats, name="stats"),
            *Writes(self.storage, self._users).routes(),
            *Reads(self.storage, self._users).routes(),
        ]
        return Starlette(routes=routes, exception_handlers={Refused: refused})

    async def _show_stats(self, request: Request) -> Response:
        return JSONResponse(self.stats.to_dict())


def _listen(port: int) -> socket.socket:
    # the protocol is named, for only then asyncio turns Nagle's algorithm off: else each answer waits 40 ms
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise ConfigError(f"the hub cannot listen on {_HOST}:{port} ({error}); choose a free port, or 0") from None
    # listening from here on, so that a second server on this port fails at once
    listening.listen(128)
    return listening


class _Watched:
    """The application, counted, and struck by the faults asked for."""

    def __init__(self, app: ASGIApp, stats: Stats, faults: Faults) -> None:
        self.app, self.stats, self.faults = app, stats, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/_stats":
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
