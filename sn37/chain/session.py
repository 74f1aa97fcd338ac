"""The SDK's client on an event loop of its own thread, which blocking callers of any thread share.

A session is opened by its first call and is used until `stop`. Knows nothing of retries: every error passes through.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from bittensor import Client, Substrate

__all__ = ["Session", "SessionClosed", "Task"]

T = TypeVar("T")
Task = Callable[["Client"], Awaitable[T]]
"""What is asked of the client."""

_CLOSE_TIMEOUT_S = 5.0
_WATCH_S = 1.0
_GRACE_S = 0.1
_SUPERVISOR = "rpc-session"
"""How the SDK calls the task that owns its websocket."""


class SessionClosed(ConnectionError):
    """The session was stopped before the call began: nothing was sent."""


class Session:
    """One client of a network, or of the substrate that `open_substrate` opens."""

    def __init__(self, network: str, open_substrate: Callable[[], Substrate] | None) -> None:
        # Imported here: the SDK's import takes its time, and no attempt should pay for it.
        from bittensor import Client

        self._make = Client
        self._network, self._open_substrate = network, open_substrate
        self._client: Client | None = None
        self._open, self._gate = True, threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=(self._loop,), name="sn37-chain", daemon=True)
        self._thread.start()
        self._finalizer = weakref.finalize(self, _stop, self._loop, self._thread)

    def call(self, task: Task[T], timeout_s: float) -> T:
        """The task's outcome. Raises TimeoutError, SessionClosed, and whatever the SDK raises."""

        async def answer() -> T:
            return await asyncio.wait_for(self._answer(task), timeout_s)

        # What is handed to a loop that has been told to stop would never begin.
        with self._gate:
            if not self._open:
                raise SessionClosed("another thread's failure has just closed the connection")
            future = asyncio.run_coroutine_threadsafe(answer(), self._loop)
        try:
            # A loop blocked by a substrate cannot time out by itself.
            return future.result(timeout_s + _CLOSE_TIMEOUT_S)
        except BaseException:
            future.cancel()
            raise

    async def _answer(self, task: Task[T]) -> T:
        if self._client is None:
            self._client = await self._connected()
        call = asyncio.ensure_future(task(self._client))
        try:
            while not call.done():
                supervisor = _supervisor()
                watched = {call} if supervisor is None else {call, supervisor}
                await asyncio.wait(watched, timeout=_WATCH_S, return_when=asyncio.FIRST_COMPLETED)
                if supervisor is not None and supervisor.done():
                    await asyncio.wait({call}, timeout=_GRACE_S)
                    if not call.done():
                        raise ConnectionError("the node closed the connection") from _failure(supervisor)
            return await call
        finally:
            call.cancel()

    async def _connected(self) -> Client:
        if self._open_substrate is None:
            client = self._make(self._network)
            return await _opened(client, client.connect())
        substrate = self._open_substrate()
        # Client.connect would file this chain's token symbols in the user's home, under a real network's name.
        return await _opened(self._make("local", substrate=substrate), substrate.connect())

    def stop(self) -> None:
        """Close the connection and end the thread; safe to call twice."""
        with self._gate:
            if not self._open:
                return
            self._open = False
            closing = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
        with contextlib.suppress(Exception):
            closing.result(_CLOSE_TIMEOUT_S)
        self._finalizer()

    async def _close(self) -> None:
        if self._client is not None:
            await self._client.close()


async def _opened(client: Client, opening: Awaitable[object]) -> Client:
    """The client once it is open; closed again where it does not open, for nobody else would."""
    try:
        await opening
    except BaseException:
        with contextlib.suppress(Exception):
            await client.close()
        raise
    return client


def _supervisor() -> asyncio.Task[object] | None:
    """The SDK's task that owns the websocket, where there is one.

    When a node closes the connection in good order (1001) while a call waits, that task ends, of an assertion that
    fails or silently, and the call would wait for ever.
    """
    return next((task for task in asyncio.all_tasks() if task.get_name() == _SUPERVISOR), None)


def _failure(task: asyncio.Task[object]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(_CLOSE_TIMEOUT_S)
