"""An embedded chain whose node fails when told to, for every client in this process."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bittensor import ChainError, RpcConnectionError
from bittensor._transport.rpc import classify_rpc_error
from bittensor.result import chain_error_from_substrate_request

from sn37.devnet.chain import Chain
from sn37.devnet.chain.extrinsics import Extrinsic
from sn37.devnet.chain.substrate import EmbeddedSubstrate

How = Literal["silent", "refusing", "forgetful", "dropping"]

DROPPED = (
    "Connection dropped while an extrinsic submission was in flight; the transaction may already be in the pool or on "
    "chain. Verify chain state before retrying."
)
"""What the SDK's own transport says, as the text of a ChainError without a name, when an answer is lost."""


@dataclass
class _Fault:
    how: How
    calls: int | None
    error: ChainError | None = None
    delay_blocks: int | None = None


_faults: dict[Path, _Fault] = {}
_pools: dict[Path, list[tuple[int, Extrinsic]]] = {}
_lock = threading.Lock()


def pool_answer(code: int, message: str, data: str | None = None) -> ChainError:
    """A node's answer to a signed call, as the SDK's transport words it."""
    error = {"code": code, "message": message, **({} if data is None else {"data": data})}
    return chain_error_from_substrate_request(classify_rpc_error(error))


class FaultyChain(Chain):
    """A chain that can be told to fail. Its clients may open the file by its address."""

    def fail(
        self, how: How, calls: int | None = None, error: ChainError | None = None, delay_blocks: int | None = None
    ) -> None:
        """Let clients meet a broken node, for so many of their calls (for all, when None).

        silent: never answers; refusing: breaks the connection; forgetful: does what a signed call
        asks, then breaks the connection; dropping: answers a signed call with `error`, and includes it only
        `delay_blocks` later, or never (None).
        """
        _faults[self.store.path] = _Fault(how, calls, error, delay_blocks)

    def recover(self) -> None:
        """Answer again."""
        _faults.pop(self.store.path, None)

    def pass_block(self) -> None:
        """Let a block pass, with what is due of the calls that were taken into the pool."""
        pool, due = _pools.get(self.store.path, []), self.head() + 1
        ripe = [extrinsic for block, extrinsic in pool if block <= due]
        _pools[self.store.path] = [(block, extrinsic) for block, extrinsic in pool if block > due]
        for extrinsic in ripe:
            self.include(extrinsic)  # which seals the block
        self.advance_to(due)


def _strikes(path: Path, how: How) -> _Fault | None:
    """The fault that this call meets; counts it."""
    with _lock:
        fault = _faults.get(path)
        if fault is None or fault.how != how:
            return None
        if fault.calls is not None:
            fault.calls -= 1
            if fault.calls <= 0:
                del _faults[path]
        return fault


async def _observe(chain: Chain, moment: Literal["asked", "signed", "included"], extrinsic: Extrinsic | None) -> None:
    path = chain.store.path
    if moment == "included" and _strikes(path, "forgetful"):
        raise RpcConnectionError("the embedded chain was told to break the connection after a call")
    if moment == "asked" and _strikes(path, "silent"):
        await asyncio.Event().wait()
    if moment == "asked" and _strikes(path, "refusing"):
        raise RpcConnectionError("the embedded chain was told to refuse connections")
    if moment == "signed" and extrinsic is not None and (fault := _strikes(path, "dropping")):
        if fault.delay_blocks is not None:
            _pools.setdefault(path, []).append((chain.head() + fault.delay_blocks, extrinsic))
        raise fault.error or ChainError(DROPPED)


EmbeddedSubstrate.observer = staticmethod(_observe)
