"""An embedded chain whose node fails when told to, for every client in this process."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bittensor import RpcConnectionError

from sn37.devnet.chain import Chain
from sn37.devnet.chain.substrate import EmbeddedSubstrate

How = Literal["silent", "refusing", "forgetful"]


@dataclass
class _Fault:
    how: How
    calls: int | None


_faults: dict[Path, _Fault] = {}
_lock = threading.Lock()


class FaultyChain(Chain):
    """A chain that can be told to fail. Its clients may open the file by its address."""

    def fail(self, how: How, calls: int | None = None) -> None:
        """Let clients meet a broken node, for so many of their calls (for all, when None).

        silent: never answers; refusing: breaks the connection; forgetful: does what a signed call
        asks, then breaks the connection.
        """
        _faults[self.store.path] = _Fault(how, calls)

    def recover(self) -> None:
        """Answer again."""
        _faults.pop(self.store.path, None)


def _strikes(path: Path, how: How) -> bool:
    """Whether this call meets the fault; counts it."""
    with _lock:
        fault = _faults.get(path)
        if fault is None or fault.how != how:
            return False
        if fault.calls is not None:
            fault.calls -= 1
            if fault.calls <= 0:
                del _faults[path]
        return True


async def _observe(chain: Chain, moment: Literal["asked", "included"]) -> None:
    path = chain.store.path
    if moment == "included" and _strikes(path, "forgetful"):
        raise RpcConnectionError("the embedded chain was told to break the connection after a call")
    if moment == "asked" and _strikes(path, "silent"):
        await asyncio.Event().wait()
    if moment == "asked" and _strikes(path, "refusing"):
        raise RpcConnectionError("the embedded chain was told to refuse connections")


EmbeddedSubstrate.observer = staticmethod(_observe)
