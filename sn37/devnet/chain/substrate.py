"""The embedded chain behind the SDK's own seam: what the SDK's clients ask of a `bittensor.Substrate`.

The SDK's real clients, typed reads and intents run over it. What the embedded chain does not have
(multisig, shielded or externally signed calls, events) is a `ChainError` that says so.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NoReturn, Protocol, cast

from bittensor import Balance, ChainError, ExtrinsicResult

from sn37.clock import SECONDS_PER_BLOCK
from sn37.devnet.chain.answers import Pair, Params, storage, storage_map, subnet_metagraph, subnet_neurons
from sn37.devnet.chain.chain import Chain
from sn37.devnet.chain.extrinsics import Extrinsic, Refused, encode, next_nonce, payload

if TYPE_CHECKING:
    from bittensor import Substrate

__all__ = ["ComposedCall", "EmbeddedSubstrate", "embedded"]

_POLL_S = 0.05
_NONCE_RACES = 20

Moment = Literal["asked", "signed", "included"]
Observer = Callable[[Chain, Moment, Extrinsic | None], Awaitable[None]]


class Signer(Protocol):
    """What signs: a bittensor Keypair, or one that answers later."""

    @property
    def ss58_address(self) -> str: ...

    @property
    def crypto_type(self) -> int: ...

    def sign(self, data: bytes) -> bytes | Awaitable[bytes]: ...


@dataclass(frozen=True)
class ComposedCall:
    """A call as the chain takes it."""

    module: str
    """The pallet."""
    function: str
    """Its call."""
    params: Mapping[str, object]
    """The arguments, by name."""
    data: bytes
    """The canonical text of all that."""


def embedded(chain: Chain) -> Substrate:
    """The chain as the SDK's clients take it; closing a client closes the chain's file."""
    return cast("Substrate", EmbeddedSubstrate(chain))


class EmbeddedSubstrate:
    """`bittensor.Substrate` over a `Chain`, as far as the chain has it."""

    observer: ClassVar[Observer | None] = None
    """Awaited before every answer ("asked"), and with a signed call before and after it is included ("signed",
    "included"). It may raise or never return: so a node fails in tests."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.token_symbols: dict[int, str] = {}

    def __getattr__(self, name: str) -> Callable[..., Awaitable[NoReturn]]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def missing(*_: object, **__: object) -> NoReturn:
            raise ChainError(f"the embedded chain does not do {name}", "CallFiltered")

        return missing

    def balance(self, rao: int, netuid: int = 0) -> Balance:
        """An amount with its subnet's symbol."""
        return Balance(int(rao), netuid, self.token_symbols.get(netuid) if netuid else None)

    async def connect(self) -> None:
        """Reach the chain. Idempotent."""
        await self._observe("asked")

    async def close(self) -> None:
        """Let go of the file."""
        self.chain.close()

    # Reads ----------------------------------------------------------------------------------------

    async def block_hash(self, block: int | None = None) -> str:
        """The hash of a block; ChainError where there is no such block."""
        await self._observe("asked")
        try:
            return self.chain.block_hash(block)
        except ValueError as error:
            raise ChainError(str(error)) from None

    async def block_number(self) -> int:
        """The head."""
        await self._observe("asked")
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

    async def get_block(
        self, block_number: int | None = None, block_hash: str | None = None
    ) -> dict[str, object] | None:
        """A block's header and its calls; the first is Timestamp.set. None where there is no such block."""
        await self._observe("asked")
        head = self.chain.head()
        number = head if block_number is None else block_number
        if block_hash is not None:
            number = self.chain.store.number_of(block_hash) or 0
        found = self.chain.store.hash_of(number)
        if found is None or number > head:
            return None
        if number - 1 < self.chain.pruned_before:  # its calls are decoded with the runtime of the parent
            raise _discarded(found)
        milliseconds = round(self.chain.timestamp(number).timestamp() * 1000)
        arguments = [{"name": "now", "value": milliseconds}]
        stamp = {"call": {"call_module": "Timestamp", "call_function": "set", "call_args": arguments}}
        rows = self.chain.store.rows(
            "SELECT address, signature, call FROM extrinsics WHERE block = ? ORDER BY position", number
        )
        header = {"number": number, "hash": found, "parentHash": self.chain.store.hash_of(number - 1)}
        return {"header": header, "extrinsics": [stamp, *map(dict, rows)]}

    async def query(
        self, module: str, storage_function: str, params: Params | None = None, block_hash: str | None = None
    ) -> object:
        """One storage item as of a block."""
        block = await self._pinned(block_hash)
        return storage(self.chain, f"{module}.{storage_function}", params or [], block)

    async def query_map(
        self, module: str, storage_function: str, params: Params | None = None, block_hash: str | None = None
    ) -> list[Pair]:
        """A whole storage map as of a block."""
        block = await self._pinned(block_hash)
        return storage_map(self.chain, f"{module}.{storage_function}", params or [], block)

    async def map_has_entries(
        self, module: str, storage_function: str, params: Params, block_hash: str | None = None
    ) -> bool:
        """Whether a storage map has any entry as of a block."""
        return bool(await self.query_map(module, storage_function, params, block_hash))

    async def query_batch(
        self, module: str, storage_function: str, param_sets: Sequence[Params], block_hash: str | None = None
    ) -> list[object]:
        """One storage map for many keys, in their order."""
        return [await self.query(module, storage_function, params, block_hash) for params in param_sets]

    async def runtime_call(self, api: str, method: str, params: Params, block_hash: str | None = None) -> object:
        """A runtime call as of a block: the metagraph or the neurons of a subnet."""
        block = await self._pinned(block_hash)
        match f"{api}.{method}":
            case "SubnetInfoRuntimeApi.get_metagraph":
                return subnet_metagraph(self.chain, int(params[0]), block)
            case "NeuronInfoRuntimeApi.get_neurons":
                return subnet_neurons(self.chain, int(params[0]), block, lite=False)
            case "NeuronInfoRuntimeApi.get_neurons_lite":
                return subnet_neurons(self.chain, int(params[0]), block, lite=True)
        raise ChainError(f"the embedded chain has no runtime call {api}.{method}", "CallFiltered")

    async def constant(self, module: str, name: str) -> int:
        """A constant of the chain; there is one, the length of a block in milliseconds."""
        if (module, name) == ("Aura", "SlotDuration"):
            return round(await self.block_time() * 1000)
        raise ChainError(f"the embedded chain has no constant {module}.{name}", "CallFiltered")

    async def blocks(self, *, finalized: bool = False) -> AsyncIterator[dict[str, object]]:
        """Headers of new blocks, one by one, beginning with the head."""
        number = await self.block_number()
        while True:
            while number <= await self.block_number():
                block = await self.get_block(number)
                yield {"header": block["header"] if block else {"number": number}}
                number += 1
            await asyncio.sleep(_POLL_S)

    # Calls ----------------------------------------------------------------------------------------

    async def compose(self, call: tuple[str, str, Mapping[str, object]]) -> ComposedCall:
        """A generated call, made ready to be signed."""
        module, function, params = call
        try:
            return ComposedCall(module, function, dict(params), encode(module, function, params).encode())
        except Refused as error:
            raise ChainError(str(error), error.name) from None

    async def estimate_fee(self, call: ComposedCall, keypair: Signer) -> Balance:
        """Nothing: the embedded chain has no balances."""
        return Balance(0)

    async def account_next_index(self, address: str) -> int:
        """The nonce of the account's next call."""
        await self._observe("asked")
        return next_nonce(self.chain.store, address)

    async def submit(
        self,
        call: ComposedCall,
        keypair: Signer,
        *,
        nonce: int | None = None,
        period: int | None = None,
        wait_for_inclusion: bool = True,
        wait_for_finalization: bool = True,
    ) -> ExtrinsicResult:
        """Sign a call and have it included. A call the chain refuses is a failed result, not an exception."""
        await self._observe("asked")
        try:
            block, position = await self._include(call.data.decode(), keypair, nonce)
        except Refused as error:
            return ExtrinsicResult(success=False, message=str(error), error=ChainError(str(error), error.name))
        await self._observe("included")
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

    async def _include(self, text: str, keypair: Signer, nonce: int | None) -> tuple[int, int]:
        """Sign and include a call, again with the next nonce where another call of the account came first."""
        for race in range(_NONCE_RACES):
            chosen = next_nonce(self.chain.store, keypair.ss58_address) if nonce is None else nonce
            message = payload(self.chain.store.origin.genesis, keypair.ss58_address, chosen, text)
            signature = keypair.sign(message)
            if inspect.isawaitable(signature):
                signature = await signature
            extrinsic = Extrinsic(keypair.ss58_address, chosen, text, bytes(signature), keypair.crypto_type)
            await self._observe("signed", extrinsic)
            try:
                return self.chain.include(extrinsic)
            except Refused as error:
                if error.name != "Stale" or nonce is not None or race == _NONCE_RACES - 1:
                    raise
        raise AssertionError("unreachable")

    async def mev_next_key(self) -> None:
        """None: nothing is shielded."""

    # The node's state -----------------------------------------------------------------------------

    async def _pinned(self, block_hash: str | None) -> int:
        """The block a read is about; ChainError for an unknown hash or state that was pruned."""
        await self._observe("asked")
        head = self.chain.head()
        if block_hash is None:
            return head
        number = self.chain.store.number_of(block_hash)
        if number is None or number > head:
            raise ChainError(f"UnknownBlock: the chain has no block {block_hash}")
        if number < self.chain.pruned_before:
            raise _discarded(block_hash)
        return number

    async def _observe(self, moment: Moment, extrinsic: Extrinsic | None = None) -> None:
        observer = EmbeddedSubstrate.observer
        if observer is not None:
            await observer(self.chain, moment, extrinsic)


def _discarded(block_hash: str) -> ChainError:
    return ChainError(f"State discarded for {block_hash}: use an archive node")
