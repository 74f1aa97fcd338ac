"""One connection to a chain: calls on the SDK's client with time-outs, bounded retries and named faults.

The client lives on an event loop of its own thread, so the blocking calls here work anywhere, also
inside a running loop (Jupyter). Whatever goes wrong is a `ChainFault` that names the network and the
operation; nothing of a wallet is ever part of its text. A signed call is never sent a second time while
the first may still reach the chain. Knows nothing of subnets.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from sn37.chain.networks import opener
from sn37.chain.session import Session, SessionClosed, Task
from sn37.clock import SECONDS_PER_BLOCK
from sn37.errors import ChainFault, ConfigError

__all__ = ["CALL_PERIOD_BLOCKS", "Connection", "Fate", "NoSuch", "StatePruned", "fate_of"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

CALL_PERIOD_BLOCKS = 16
"""A signed call is valid for so many blocks (its era, a power of two): after them it can never be included."""

_POOL_RETRIES = ("AncientBirthBlock", "ExhaustsResources", "Future", "PriorityTooLow", "Stale")
"""The SDK's names of a pool's answers that say: not now. The call is not in the pool (1010, 1014)."""

_POOL_RETRY_TEXTS = ("temporarily banned", "immediately dropped")
"""The same of answers to which the SDK gives no name (1012, 1016)."""

_POOL_UNKNOWN = ("AlreadyImported", "Dropped", "FinalityTimeout", "Retracted", "Usurped")
"""The call is in the pool (1013), or was: it may reach the chain, or have reached it."""


class NoSuch(LookupError):
    """The chain answered, but has no such block or subnet: asking again does not help."""


class StatePruned(ChainFault):
    """The node no longer keeps the state of that block: only an archive node answers."""


class Fate(Enum):
    """What an error says of the signed call that met it."""

    REFUSED = "the chain refused it: the same call would be refused again"
    NOT_TAKEN = "it is not in the pool: the same call may be taken in a later block"
    UNKNOWN = "its answer was lost: it may be in the pool or on the chain"


def fate_of(error: BaseException) -> Fate:
    """What became of a signed call. An answer that was lost comes as a `ChainError` without a name, too."""
    from bittensor import BittensorError, ChainError, ErrorCode, RpcConnectionError

    if isinstance(error, ChainError):
        if error.name in _POOL_RETRIES or any(text in str(error).lower() for text in _POOL_RETRY_TEXTS):
            return Fate.NOT_TAKEN
        unnamed = error.name is None and error.code is ErrorCode.UNKNOWN
        return Fate.UNKNOWN if unnamed or error.name in _POOL_UNKNOWN else Fate.REFUSED
    refused = isinstance(error, BittensorError | NoSuch) and not isinstance(error, RpcConnectionError)
    return Fate.REFUSED if refused else Fate.UNKNOWN


class Connection:
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
        self._session: Session | None = None
        self._starting = threading.Lock()

    def read(self, operation: str, task: Task[T]) -> T:
        """The answer to a question, asked again after any failure but pruned state.

        Raises StatePruned, or ChainFault after the last attempt.
        """
        attempt = 1
        while True:
            try:
                return self._once(operation, task, self._timeout_s, repeatable=True)
            except (ChainFault, ConfigError):
                raise
            except Exception as error:
                final = isinstance(error, NoSuch) or attempt == self._attempts
                self._report(operation, error, self._timeout_s, attempt, final)
            self._sleep(self._backoff_s * 2 ** (attempt - 1))
            attempt += 1

    def send(self, operation: str, submit: Task[T], find: Task[T | None]) -> T:
        """The outcome of a signed call that is valid for `CALL_PERIOD_BLOCKS`.

        submit: signs and sends it; find: its outcome in the final state, or None while it is not there. When the
        answer of `submit` is lost, `find` looks through the following blocks, and only when the call can no longer be
        included is it sent again. Raises ChainFault when the chain refuses, or after the last attempt.
        """
        timeout_s, attempt = 3 * self._timeout_s, 1
        while True:
            try:
                return self._once(operation, submit, timeout_s, repeatable=False)
            except (ChainFault, ConfigError):
                raise
            except Exception as error:
                fate = fate_of(error)
                self._report(operation, error, timeout_s, attempt, final=fate is Fate.REFUSED)
                failure = error
            self._sleep(self._backoff_s * 2 ** (attempt - 1))
            if fate is Fate.UNKNOWN:
                found = self._look_for(operation, find)
                if found is not None:
                    return found
            elif attempt < self._attempts:
                self._sleep(SECONDS_PER_BLOCK)  # what keeps the call out passes with a block
            if attempt == self._attempts:
                raise self._failed(operation, failure, timeout_s, attempt) from failure
            attempt += 1

    def _look_for(self, operation: str, find: Task[T | None]) -> T | None:
        """The outcome of a call whose answer was lost; None once no block can take it any more."""
        last = self.read(operation, lambda client: client.block()) + CALL_PERIOD_BLOCKS
        for _ in range(2 * CALL_PERIOD_BLOCKS):
            final = self.read(operation, lambda client: client.finalized_block())
            found = self.read(operation, find)
            if found is not None or final > last:
                return found
            self._sleep(SECONDS_PER_BLOCK)
        raise self.fault(
            operation,
            f"the answer was lost and block {last} is not final yet: until then nobody knows whether the call arrived",
        )

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        with self._starting:
            session, self._session = self._session, None
        if session is not None:
            session.stop()

    def fault(self, operation: str, reason: str) -> ChainFault:
        """A fault that names the network and the operation."""
        return ChainFault(f"{self.network}: {operation} failed: {reason}")

    def _once(self, operation: str, task: Task[T], timeout_s: float, *, repeatable: bool) -> T:
        """One attempt; the connection is given up when it fails. Raises what the SDK raises, or StatePruned."""
        while True:
            session = self._running()
            try:
                return session.call(task, timeout_s)
            except (ChainFault, ConfigError, NoSuch):
                raise
            except Exception as error:
                first = self._drop(session)
                if isinstance(error, SessionClosed) or (repeatable and not first):
                    continue  # another thread's failure closed the connection under this call: no attempt of its own
                if is_pruned(error):
                    raise StatePruned(
                        f"{self.network}: {operation} failed: the node no longer keeps the state of that block; "
                        "use an archive node"
                    ) from error
                raise

    def _report(self, operation: str, error: Exception, timeout_s: float, attempt: int, final: bool) -> None:
        """Raise the fault of the last attempt, or say why there is another."""
        if final:
            raise self._failed(operation, error, timeout_s, attempt) from error
        _log.warning("%s: %s: %s; asking again", self.network, operation, _reason(error, timeout_s))

    def _failed(self, operation: str, error: Exception, timeout_s: float, attempt: int) -> ChainFault:
        tries = "" if attempt == 1 else f", {attempt} attempts"
        return self.fault(operation, f"{_reason(error, timeout_s)}{tries}")

    def _running(self) -> Session:
        with self._starting:
            if self._session is None:
                self._session = Session(self.network, self._opener)
            return self._session

    def _drop(self, session: Session) -> bool:
        """Forget a connection after a failure, and whether this thread is the first to do so.

        The next attempt opens a new one, or finds another thread's.
        """
        with self._starting:
            first = self._session is session
            if first:
                self._session = None
        session.stop()
        return first


def is_pruned(error: BaseException) -> bool:
    """Whether an error says that the node keeps no state of a block (code 4003)."""
    text = str(error).lower()
    return "state discarded" in text or "state already discarded" in text


def _reason(error: BaseException, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, NoSuch):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
