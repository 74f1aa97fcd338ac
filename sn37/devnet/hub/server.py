"""The embedded hub as a server: in this process on a thread, or as a process of its own.

It listens on the loopback interface only, and never asks anything of the network.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

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

    clock: gives commits their time; port: 0 for any free one; middleware: what each request passes first,
    as Starlette takes it. Use it as a context manager, or `start` and `stop` it. Raises ConfigError where the port
    is busy or another process serves the folder.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Callable[[], datetime] = wall_clock,
        port: int = 0,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self.root = Path(root)
        self._thread: threading.Thread | None = None
        self._socket = _listen(port)
        try:
            self.storage = Storage(self.root, clock)
            self._users = Users(self.root / "tokens.json", self.storage)
        except BaseException:
            self._socket.close()
            raise
        routes = [*Writes(self.storage, self._users).routes(), *Reads(self.storage, self._users).routes()]
        app = Starlette(routes=routes, middleware=middleware, exception_handlers={Refused: refused})
        config = uvicorn.Config(app, log_config=None, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
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
