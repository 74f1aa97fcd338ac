"""One connection to a chain: calls on the SDK's client with time-outs, bounded retries and named faults.

The client lives on an event loop of its own thread, so the blocking calls here work anywhere, also
inside a running loop (Jupyter). Whatever goes wrong is a `ChainFault` that names the network and the
operation; nothing of a wallet is ever part of its text.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from sn37.chain.asks import NoSuch
from sn37.chain.networks import opener
from sn37.errors import ChainFault, ConfigError

if TYPE_CHECKING:
    from bittensor import Client

__all__ = ["Link", "StatePruned"]

T = TypeVar("T")
Ask = Callable[["Client"], Awaitable[T]]

_log = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 5.0

_POOL_RACES = ("Dropped", "FinalityTimeout", "Future", "Retracted", "Stale", "Usurped")
"""How the SDK names it when a node's pool lost a call: the same call may pass the next time."""


class StatePruned(ChainFault):
    """The node no longer keeps the state of that block: only an archive node answers."""


class Link:
    """A connection, opened at the first call and opened anew after a failure.

    timeout_s: of one attempt at reading; signed calls, which wait for their block to be final, get
    three times that. attempts: how often in all. backoff_s: the pause before the second attempt,
    doubled each time. sleep: how to pause.
    """

    def __init__(
        self,
        network: str,
        *,
        timeout_s: float = 60.0,
        attempts: int = 4,
        backoff_s: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not timeout_s > 0 or attempts < 1 or not backoff_s >= 0:
            raise ConfigError(
                f"timeout_s, attempts and backoff_s are {timeout_s}, {attempts}, {backoff_s}; "
                "expected above 0, 1 or more, 0 or more"
            )
        self.network = network
        self._opener = opener(network)
        self._timeout_s, self._attempts, self._backoff_s, self._sleep = timeout_s, attempts, backoff_s, sleep
        self._session: _Session | None = None
        self._starting = threading.Lock()

    def read(self, operation: str, ask: Ask[T]) -> T:
        """The answer to a question, asked again after any failure but pruned state.

        Raises StatePruned, or ChainFault after the last attempt.
        """
        return self._attempt(operation, ask, self._timeout_s, lambda error: not isinstance(error, NoSuch))

    def send(self, operation: str, ask: Ask[T]) -> T:
        """The outcome of a signed call, sent again only when the connection failed, never when the chain refused.

        The call may have arrived although its answer was lost: `ask` has to look first whether it did.
        """
        from bittensor import BittensorError, ChainError, RpcConnectionError

        def again(error: BaseException) -> bool:
            lost = isinstance(error, RpcConnectionError) or not isinstance(error, BittensorError | NoSuch)
            return lost or (isinstance(error, ChainError) and error.name in _POOL_RACES)

        return self._attempt(operation, ask, 3 * self._timeout_s, again)

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        with self._starting:
            session, self._session = self._session, None
        if session is not None:
            session.stop()

    def fault(self, operation: str, reason: str) -> ChainFault:
        """A fault that names the network and the operation."""
        return ChainFault(f"{self.network}: {operation} failed: {reason}")

    def _attempt(self, operation: str, ask: Ask[T], timeout_s: float, again: Callable[[BaseException], bool]) -> T:
        attempt = 1
        while True:
            session = self._running()
            try:
                return session.call(ask, timeout_s)
            except (ChainFault, ConfigError):
                raise
            except Exception as error:
                if not self._drop(session):
                    continue  # another thread's failure closed the connection under this call: no attempt of its own
                if _is_pruned(error):
                    raise StatePruned(
                        f"{self.network}: {operation} failed: the node no longer keeps the state of that block; "
                        "use an archive node"
                    ) from error
                if attempt == self._attempts or not again(error):
                    tries = "" if attempt == 1 else f", {attempt} attempts"
                    raise self.fault(operation, f"{_reason(error, timeout_s)}{tries}") from error
                if isinstance(error, TimeoutError):  # who waits so long is told why
                    _log.warning("%s: %s: %s; asking again", self.network, operation, _reason(error, timeout_s))
            self._sleep(self._backoff_s * 2 ** (attempt - 1))
            attempt += 1

    def _running(self) -> _Session:
        with self._starting:
            if self._session is None:
                self._session = _Session(self.network, self._opener)
            return self._session

    def _drop(self, session: _Session) -> bool:
        """Forget a connection after a failure, and whether this thread is the first to do so.

        The next attempt opens a new one, or finds another thread's.
        """
        with self._starting:
            first = self._session is session
            if first:
                self._session = None
        session.stop()
        return first


class _Session:
    """An event loop on a daemon thread, with one client on it."""

    def __init__(self, network: str, open_substrate: Callable[[], Any] | None) -> None:
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

    def call(self, ask: Ask[T], timeout_s: float) -> T:
        async def answer() -> T:
            return await asyncio.wait_for(self._ask(ask), timeout_s)

        # What is handed to a loop that has been told to stop would never begin.
        with self._gate:
            if not self._open:
                raise ConnectionError("another thread's failure has just closed the connection")
            future = asyncio.run_coroutine_threadsafe(answer(), self._loop)
        try:
            # A loop blocked by a substrate cannot time out by itself.
            return future.result(timeout_s + _CLOSE_TIMEOUT_S)
        except BaseException:
            future.cancel()
            raise

    async def _ask(self, ask: Ask[T]) -> T:
        if self._client is None:
            self._client = await self._connected()
        return await ask(self._client)

    async def _connected(self) -> Client:
        if self._open_substrate is None:
            return await self._make(self._network).connect()
        substrate = self._open_substrate()
        # Client.connect would file this chain's token symbols in the user's home, under a real network's name.
        await substrate.connect()
        return self._make("local", substrate=substrate)

    def stop(self) -> None:
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


def _is_pruned(error: BaseException) -> bool:
    return "state discarded" in str(error).lower() or "state already discarded" in str(error).lower()


def _reason(error: BaseException, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, NoSuch):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
