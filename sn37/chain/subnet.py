"""The subnet on a chain, through the bittensor SDK: blocks, metagraph, commitments, weights.

Everything is blocking and works inside a running event loop. Reads name a block or mean the newest
final one. Knows nothing of models, competitions or epochs.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import sn37
from sn37.chain import reads
from sn37.chain.connection import CALL_PERIOD_BLOCKS, Connection, Fate, StatePruned, fate_of
from sn37.chain.values import Metagraph, WeightsResult
from sn37.errors import ConfigError
from sn37.submission import MAX_COMMITMENT_BYTES, Submissions

if TYPE_CHECKING:
    from bittensor import Client, ExtrinsicResult

__all__ = ["Subnet", "weights_version"]


class Subnet:
    """One subnet of a chain.

    network: finney, test, local, ws://... or wss://..., or an embedded chain (`sqlite:///file`).
    wallet: whatever the SDK takes as one; needed to commit and to set weights. timeout_s, attempts,
    backoff_s, sleep: see `sn37.chain.connection.Connection`.
    """

    def __init__(
        self,
        network: str,
        netuid: int,
        *,
        wallet: Any = None,
        timeout_s: float = 60.0,
        attempts: int = 4,
        backoff_s: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.network = network
        self.netuid = netuid
        self._wallet = wallet
        self._connection = Connection(network, timeout_s=timeout_s, attempts=attempts, backoff_s=backoff_s, sleep=sleep)

    def __repr__(self) -> str:
        return f"Subnet(network={self.network!r}, netuid={self.netuid})"

    def __enter__(self) -> Subnet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        self._connection.close()

    @property
    def hotkey(self) -> str:
        """The address of the wallet's hotkey. Raises ConfigError without a wallet."""
        from bittensor import public_view

        return str(public_view(self._signer(), "hotkey").ss58_address)

    # Blocks ---------------------------------------------------------------------------------------

    def head(self) -> int:
        """The newest final block: the newest that every validator sees alike."""
        return self._connection.read("reading the head", lambda client: client.finalized_block())

    def block_hash(self, block: int) -> str:
        """The hash of a block, as 0x... text. Raises ChainFault where there is no such block."""
        return self._connection.read(f"reading block {block}", lambda client: reads.block_hash(client, block))

    def timestamp(self, block: int) -> datetime:
        """The time of a block, in UTC: that of its Timestamp.set. Raises StatePruned where the node is no archive."""
        info = self._connection.read(f"reading block {block}", lambda client: client.block_info(block))
        if info is None or info.number != block:
            raise self._connection.fault(f"reading block {block}", "the chain has no such block")
        return info.timestamp

    # Reads ----------------------------------------------------------------------------------------

    def metagraph(self, netuid: int | None = None, block: int | None = None) -> Metagraph:
        """The neurons of this subnet, or of another one, at a block (the newest final one, when None).

        Raises StatePruned when the node no longer keeps that block's state.
        """
        wanted = self.netuid if netuid is None else netuid
        return self._connection.read(
            f"reading the metagraph of subnet {wanted}", lambda client: reads.metagraph(client, wanted, block)
        )

    def trusted(self, netuid: int, min_stake: float, block: int | None = None) -> frozenset[str]:
        """The hotkeys with a validator permit and at least `min_stake` TAO on a subnet at a block."""
        return self.metagraph(netuid, block).trusted(min_stake)

    def submissions(self, block: int | None = None, *, or_head: bool = False) -> Submissions:
        """The latest commitment of every registered hotkey as of a block, by uid, in one call.

        A commitment that is no submission has its reason in `fault`; nothing a miner commits raises.

        or_head: when the node no longer keeps that block's state, read the newest state instead and
        leave out what was committed after `block`. A miner that committed anew in between is then
        missing, so two validators may differ: an archive node is better. Otherwise StatePruned.
        """
        operation = f"reading the commitments of subnet {self.netuid}"
        try:
            found = self._connection.read(operation, lambda client: reads.submissions(client, self.netuid, block))
            return Submissions(found)
        except StatePruned:
            if not or_head or block is None:
                raise
        latest = self._connection.read(operation, lambda client: reads.submissions(client, self.netuid, None))
        return Submissions(submission for submission in latest if submission.block <= block)

    def committed(self, hotkey: str) -> tuple[int, str] | None:
        """The hotkey's commitment right now, as (block, text), or None."""
        return self._connection.read(
            f"reading the commitment of {hotkey}", lambda client: reads.committed(client, self.netuid, hotkey)
        )

    def validator_weights(self, block: int | None = None) -> dict[str, dict[str, float]]:
        """The weights in force at a block: validator hotkey -> miner hotkey -> share; each sums to 1.

        Everything follows the hotkey: weights that were set before their target's uid, or the
        validator's own, changed hands are left out.
        """
        return self._connection.read(
            f"reading the weights of subnet {self.netuid}",
            lambda client: reads.validator_weights(client, self.netuid, block),
        )

    # Signed calls ---------------------------------------------------------------------------------

    def commit(self, text: str) -> int:
        """Commit a text for the wallet's hotkey and wait until that is final. Returns the block.

        Raises ConfigError above 128 bytes or without a wallet, ChainFault when the chain refuses.
        """
        raw = text.encode()
        if not 0 < len(raw) <= MAX_COMMITMENT_BYTES:
            raise ConfigError(f"the commitment has {len(raw)} bytes; the chain takes 1 to {MAX_COMMITMENT_BYTES}")
        operation = f"committing to subnet {self.netuid}"
        hotkey, signer = self.hotkey, self._signer()
        before = self.committed(hotkey)

        async def submit(client: Client) -> int:
            from bittensor import calls

            call = calls.Commitments.set_commitment(netuid=self.netuid, info={"fields": [{f"Raw{len(raw)}": raw}]})
            result = await client.submit_call(call, signer, signer="hotkey", period=CALL_PERIOD_BLOCKS)
            return self._included(operation, result)

        async def find(client: Client) -> int | None:
            now = await reads.final_commitment(client, self.netuid, hotkey)
            newer = now is not None and now[1] == text and (before is None or now[0] > before[0])
            return now[0] if now is not None and newer else None

        return self._connection.send(operation, submit, find)

    def set_weights(self, weights: Mapping[str, float]) -> WeightsResult:
        """Set the weights of the wallet's hotkey over miners' hotkeys: plain or sealed, as the subnet wants.

        Hotkeys that are not registered are left out. The chain's rate limit is an outcome, not an
        error. Raises ChainFault when the chain refuses otherwise, ValueError for weights that are
        negative, not finite or all 0.
        """
        if any(not (math.isfinite(w) and w >= 0) for w in weights.values()) or not any(weights.values()):
            raise ValueError("weights are finite, 0 or more, and not all 0")
        operation = f"setting the weights of subnet {self.netuid}"
        hotkey, signer = self.hotkey, self._signer()
        before = self._connection.read(operation, lambda client: reads.newest(client, self.netuid)).neuron(hotkey)
        if before is None:
            raise self._connection.fault(operation, f"{hotkey} is not registered")

        async def submit(client: Client) -> WeightsResult:
            from bittensor import ChainError, SetWeights

            now = await reads.newest(client, self.netuid)
            uids = {uid: weights[h] for h in sorted(weights) if (uid := now.uid_of(h)) is not None}
            if not any(uids.values()):
                raise self._connection.fault(operation, "none of the weighted hotkeys is registered")
            intent = SetWeights(netuid=self.netuid, weights=uids, version_key=weights_version())
            sealed = await reads.sealed(client, self.netuid)
            try:
                result = await client.execute(intent, signer, period=CALL_PERIOD_BLOCKS)
                block = self._included(operation, result)
            except ChainError as error:
                me = now.neuron(hotkey) or before
                possible = me.last_update + await reads.weights_rate_limit(client, self.netuid)
                if fate_of(error) is not Fate.REFUSED or me.last_update == 0 or possible <= now.block:
                    raise
                return WeightsResult("too soon", next_block=possible, dropped=_absent(weights, now))
            outcome: Literal["set", "committed"] = "committed" if sealed else "set"
            return WeightsResult(outcome, block, None, result.data.get("reveal_round"), _absent(weights, now))

        async def find(client: Client) -> WeightsResult | None:
            now = await reads.metagraph(client, self.netuid, None)
            me = now.neuron(hotkey)
            if me is None or me.last_update <= before.last_update:
                return None
            sealed = await reads.sealed(client, self.netuid)
            return WeightsResult("committed" if sealed else "set", me.last_update, dropped=_absent(weights, now))

        return self._connection.send(operation, submit, find)

    def _included(self, operation: str, result: ExtrinsicResult) -> int:
        """The block a call was included in; a refused call raises the SDK's error."""
        from bittensor import ChainError

        if not result.success and result.extrinsic_id and (result.error is None or result.error.name is None):
            raise ChainError(result.message, "ExtrinsicFailed")  # it stands in a block: its fate is known
        result.raise_for_failure()
        block, _, _ = (result.extrinsic_id or "").partition("-")
        if not block.isdigit():
            raise self._connection.fault(operation, "the node does not tell in which block the call was included")
        return int(block)

    def _signer(self) -> Any:
        if self._wallet is None:
            raise ConfigError("this needs a wallet; make the Subnet with wallet=open_wallet(name, hotkey, path)")
        return self._wallet


def _absent(weights: Mapping[str, float], now: Metagraph) -> tuple[str, ...]:
    """The weighted hotkeys that are not registered."""
    return tuple(sorted(set(weights) - set(now.hotkeys)))


def weights_version(version: str = sn37.__version__) -> int:
    """The weights version key: 1000*major + 10*minor + patch of the package."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if match is None:
        raise ValueError(f"{version!r} is no version; expected major.minor.patch")
    major, minor, patch = (int(part) for part in match.groups())
    return 1000 * major + 10 * minor + patch
