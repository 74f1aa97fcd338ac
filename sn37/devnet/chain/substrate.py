"""The embedded chain behind the SDK's own seam: an implementation of `bittensor.Substrate`.

The SDK's real clients, typed reads and intents run over it. What the embedded chain does not have
(multisig, shielded or externally signed calls, events) is a `ChainError` that says so.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from bittensor import Balance, ChainError, ExtrinsicResult, RpcConnectionError

from sn37.clock import SECONDS_PER_BLOCK
from sn37.devnet.chain import Chain
from sn37.devnet.chain.answers import UnknownItem, storage, storage_map, subnet_metagraph, subnet_neurons
from sn37.devnet.chain.calls import Extrinsic, Refused, encode, next_nonce, payload
from sn37.devnet.chain.unsupported import Unsupported, missing

__all__ = ["ComposedCall", "EmbeddedSubstrate"]

_POLL_S = 0.05
_NONCE_RACES = 20


@dataclass(frozen=True)
class ComposedCall:
    """A call as the chain takes it. data: its canonical text as bytes."""

    module: str
    function: str
    params: dict[str, Any]
    data: bytes


class EmbeddedSubstrate(Unsupported):
    """`bittensor.Substrate` over a `Chain`."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.token_symbols: dict[int, str] = {}

    def balance(self, rao: int, netuid: int = 0) -> Balance:
        """An amount with its subnet's symbol."""
        return Balance(int(rao), netuid, self.token_symbols.get(netuid) if netuid else None)

    async def connect(self) -> None:
        """Reach the chain. Idempotent."""
        await self._answering()

    async def close(self) -> None:
        """Let go of the file."""
        self.chain.close()

    # Reads ----------------------------------------------------------------------------------------

    async def block_hash(self, block: int | None = None) -> str:
        """The hash of a block; ChainError where there is no such block."""
        await self._answering()
        try:
            return self.chain.block_hash(block)
        except ValueError as error:
            raise ChainError(str(error)) from None

    async def block_number(self) -> int:
        """The head."""
        await self._answering()
        return self.chain.head()

    async def finalized_block_number(self) -> int:
        """The head: the embedded chain never forks."""
        return await self.block_number()

    async def block_time(self) -> float:
        """Seconds from block to block: the wall clock's, or 12 where blocks pass on command."""
        return self.chain.block_time_s or float(SECONDS_PER_BLOCK)

    async def spec_version(self) -> int:
        """The version of the chain's rules."""
        return 1

    async def get_block(self, block_number: int | None = None, block_hash: str | None = None) -> dict[str, Any] | None:
        """A block's header and its calls; the first is Timestamp.set. None where there is no such block."""
        await self._answering()
        head = self.chain.head()
        number = head if block_number is None else block_number
        if block_hash is not None:
            number = self.chain.store.number_of(block_hash) or 0
        found = self.chain.store.hash_of(number)
        if found is None or number > head:
            return None
        milliseconds = round(self.chain.timestamp(number).timestamp() * 1000)
        stamp = {
            "call": {
                "call_module": "Timestamp",
                "call_function": "set",
                "call_args": [{"name": "now", "value": milliseconds}],
            }
        }
        rows = self.chain.store.rows("SELECT * FROM extrinsics WHERE block = ? ORDER BY position", number)
        signed = [{"address": row["address"], "signature": row["signature"], "call": row["call"]} for row in rows]
        header = {"number": number, "hash": found, "parentHash": self.chain.store.hash_of(number - 1)}
        return {"header": header, "extrinsics": [stamp, *signed]}

    async def query(
        self, module: str, storage_function: str, params: list[Any] | None = None, block_hash: str | None = None
    ) -> Any:
        """One storage item as of a block."""
        block = await self._pinned(block_hash)
        try:
            return storage(self.chain, f"{module}.{storage_function}", params or [], block)
        except UnknownItem as error:
            raise ChainError(str(error)) from None

    async def query_map(
        self, module: str, storage_function: str, params: list[Any] | None = None, block_hash: str | None = None
    ) -> list[tuple[Any, Any]]:
        """A whole storage map as of a block."""
        block = await self._pinned(block_hash)
        try:
            return storage_map(self.chain, f"{module}.{storage_function}", params or [], block)
        except UnknownItem as error:
            raise ChainError(str(error)) from None

    async def map_has_entries(
        self, module: str, storage_function: str, params: list[Any], block_hash: str | None = None
    ) -> bool:
        """Whether a storage map has any entry as of a block."""
        return bool(await self.query_map(module, storage_function, params, block_hash))

    async def query_batch(
        self, module: str, storage_function: str, param_sets: list[list[Any]], block_hash: str | None = None
    ) -> list[Any]:
        """One storage map for many keys, in their order."""
        return [await self.query(module, storage_function, params, block_hash) for params in param_sets]

    async def runtime_call(self, api: str, method: str, params: list[Any], block_hash: str | None = None) -> Any:
        """A runtime call as of a block: the metagraph or the neurons of a subnet."""
        block = await self._pinned(block_hash)
        match f"{api}.{method}":
            case "SubnetInfoRuntimeApi.get_metagraph":
                return subnet_metagraph(self.chain, int(params[0]), block)
            case "NeuronInfoRuntimeApi.get_neurons":
                return subnet_neurons(self.chain, int(params[0]), block, lite=False)
            case "NeuronInfoRuntimeApi.get_neurons_lite":
                return subnet_neurons(self.chain, int(params[0]), block, lite=True)
        raise missing(f"runtime call {api}.{method}")

    async def constant(self, module: str, name: str) -> Any:
        """A constant of the chain; there is one, the length of a block in milliseconds."""
        if (module, name) == ("Aura", "SlotDuration"):
            return round(await self.block_time() * 1000)
        raise missing(f"constant {module}.{name}")

    async def blocks(self, *, finalized: bool = False) -> AsyncIterator[dict[str, Any]]:
        """Headers of new blocks, one by one, beginning with the head."""
        number = await self.block_number()
        while True:
            while number <= await self.block_number():
                block = await self.get_block(number)
                yield {"header": block["header"] if block else {"number": number}}
                number += 1
            await asyncio.sleep(_POLL_S)

    # Calls ----------------------------------------------------------------------------------------

    async def compose(self, call: Any) -> ComposedCall:
        """A generated call, made ready to be signed."""
        module, function, params = call
        try:
            return ComposedCall(module, function, dict(params), encode(module, function, params).encode())
        except Refused as error:
            raise ChainError(str(error), error.name) from None

    async def estimate_fee(self, call: Any, keypair: Any) -> Balance:
        """Nothing: the embedded chain has no balances."""
        return Balance(0)

    async def estimate_weight(self, call: Any, keypair: Any) -> dict[str, int]:
        """Nothing: the embedded chain does not meter calls."""
        return {"ref_time": 0, "proof_size": 0}

    async def account_next_index(self, address: str) -> int:
        """The nonce of the account's next call."""
        await self._answering()
        return next_nonce(self.chain.store, address)

    async def submit(
        self,
        call: Any,
        keypair: Any,
        *,
        nonce: int | None = None,
        period: int | None = None,
        wait_for_inclusion: bool = True,
        wait_for_finalization: bool = True,
    ) -> ExtrinsicResult:
        """Sign a call and have it included. A call the chain refuses is a failed result, not an exception."""
        await self._answering()
        text = call.data.decode()
        races = 0
        while True:
            chosen = next_nonce(self.chain.store, keypair.ss58_address) if nonce is None else nonce
            signature = await _signed(keypair, payload(self._genesis(), keypair.ss58_address, chosen, text))
            extrinsic = Extrinsic(keypair.ss58_address, chosen, text, signature, keypair.crypto_type)
            try:
                block, position = self.chain.include(extrinsic)
                break
            except Refused as error:
                races += 1
                if error.name == "Stale" and nonce is None and races < _NONCE_RACES:
                    continue
                return ExtrinsicResult(success=False, message=str(error), error=ChainError(str(error), error.name))
        if self._fault_now("forgetful"):
            raise RpcConnectionError("the embedded chain was told to break the connection after a call")
        if wait_for_inclusion or wait_for_finalization:
            while self.chain.head() < block:
                await asyncio.sleep(_POLL_S)
        return ExtrinsicResult(
            success=True,
            message="Success",
            block_hash=self.chain.store.hash_of(block),
            extrinsic_id=f"{block}-{position:04d}",
            fee=Balance(0),
        )

    async def mev_next_key(self) -> bytes | None:
        """None: nothing is shielded."""
        return None

    # The node's state -----------------------------------------------------------------------------

    def _genesis(self) -> str:
        return str(self.chain.store.meta("genesis"))

    async def _pinned(self, block_hash: str | None) -> int:
        """The block a read is about; ChainError for an unknown hash or state that was pruned."""
        await self._answering()
        head = self.chain.head()
        if block_hash is None:
            return head
        number = self.chain.store.number_of(block_hash)
        if number is None or number > head:
            raise ChainError(f"UnknownBlock: the chain has no block {block_hash}")
        if number < int(self.chain.store.meta("pruned_before")):
            raise ChainError(f"State discarded for {block_hash}: use an archive node")
        return number

    async def _answering(self) -> None:
        """Behave as the chain was told to: answer, be silent or break the connection."""
        if self._fault_now("silent"):
            await asyncio.Event().wait()
        if self._fault_now("refusing"):
            raise RpcConnectionError("the embedded chain was told to refuse connections")

    def _fault_now(self, how: str) -> bool:
        """Whether this call meets the fault; counts it."""
        fault = self.chain.store.meta("fault")
        if not fault or fault["how"] != how:
            return False
        if fault["calls"] is not None:
            with self.chain.store.writing():
                fault = self.chain.store.meta("fault")
                if not fault or fault["how"] != how:
                    return False
                left = fault["calls"] - 1
                self.chain.store.set_meta(fault={"how": how, "calls": left} if left > 0 else None)
        return True


async def _signed(keypair: Any, message: bytes) -> bytes:
    """The signer's signature; a signer that answers later is awaited."""
    signature = keypair.sign(message)
    return bytes(await signature if inspect.isawaitable(signature) else signature)
