"""Reads of a chain: the SDK's typed reads and raw maps, shaped into plain values.

Asynchronous; time-outs, retries and faults are `connection`'s work. Reads are pinned to one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sn37.chain.connection import NoSuch, is_pruned
from sn37.chain.values import Metagraph, Neuron
from sn37.submission import Submission

if TYPE_CHECKING:
    from bittensor import Client
    from bittensor.snapshot import Snapshot

__all__ = [
    "block_hash",
    "committed",
    "final_commitment",
    "metagraph",
    "newest",
    "sealed",
    "submissions",
    "validator_weights",
    "weights_rate_limit",
]

_RAO_PER_TAO = 10**9
_U16 = 65_535


async def _at(client: Client, block: int | None) -> Snapshot:
    """A view of the chain at a block (the newest final one, when None).

    Raises NoSuch for a block the chain does not have: the SDK would read the head in its place.
    """
    if block is None:
        return await client.at(await client.finalized_block())
    if block > await client.block():
        raise NoSuch(f"the chain has no block {block} yet")
    return await client.at(block)


async def block_hash(client: Client, block: int) -> str:
    """The hash of a block, as 0x... text. Raises NoSuch where there is no such block."""
    from bittensor import ChainError

    try:
        info = await client.block_info(block)
    except ChainError as error:
        # The SDK decodes a block's calls with the runtime of its parent: a node that pruned that state cannot say it,
        # though the state at the head still holds the hashes of the last 2 400 blocks.
        if not is_pruned(error):
            raise
        found = await client.query(("System", "BlockHash"), [block])
        if not found or not str(found).strip("0x"):
            raise
        return str(found)
    if info is None or info.number != block or not info.hash:
        raise NoSuch("the chain has no such block")
    return str(info.hash)


async def newest(client: Client, netuid: int) -> Metagraph:
    """The neurons of a subnet at the newest block, final or not."""
    return await metagraph(client, netuid, await client.block())


async def metagraph(client: Client, netuid: int, block: int | None) -> Metagraph:
    """The neurons of a subnet."""
    from bittensor import storage

    view = await _at(client, block)
    graph = await _graph(view, netuid)
    validator_trust = list(await view.query(storage.SubtensorModule.ValidatorTrust, [netuid]) or [])
    neurons = tuple(
        Neuron(
            uid=neuron.uid,
            hotkey=neuron.hotkey,
            coldkey=neuron.coldkey,
            stake=neuron.total_stake.rao / _RAO_PER_TAO,
            validator_permit=neuron.validator_permit,
            incentive=neuron.incentive,
            trust=neuron.trust if graph.raw.get("trust") else None,
            validator_trust=_fraction(validator_trust, neuron.uid),
            last_update=neuron.last_update,
        )
        for neuron in graph.neurons
    )
    return Metagraph(netuid, view.block, neurons)


async def submissions(client: Client, netuid: int, block: int | None) -> tuple[Submission, ...]:
    """The latest commitment of every registered hotkey, by uid."""
    from bittensor import storage

    view = await _at(client, block)
    # The SDK's typed read decodes all commitments or none; here one odd record hides nobody else's.
    records = await view.query_map(storage.Commitments.CommitmentOf, [netuid])
    rows = await view.query_map(storage.SubtensorModule.Uids, [netuid])
    uids = {str(hotkey): int(uid) for hotkey, uid in rows}
    found = [_submission(str(h), uids[str(h)], record) for h, record in records if str(h) in uids]
    return tuple(sorted(found, key=lambda submission: submission.uid))


async def committed(client: Client, netuid: int, hotkey: str) -> tuple[int, str] | None:
    """The hotkey's commitment at the head, as (block, text), or None."""
    from bittensor import storage

    return _commitment(hotkey, await client.query(storage.Commitments.CommitmentOf[:2], [netuid, hotkey]))


async def final_commitment(client: Client, netuid: int, hotkey: str) -> tuple[int, str] | None:
    """The hotkey's commitment at the newest final block, as (block, text), or None."""
    from bittensor import storage

    block = await client.finalized_block()
    return _commitment(hotkey, await client.query(storage.Commitments.CommitmentOf[:2], [netuid, hotkey], block=block))


def _commitment(hotkey: str, record: Any) -> tuple[int, str] | None:
    if record is None:
        return None
    found = _submission(hotkey, 0, record)
    return found.block, found.text


async def validator_weights(client: Client, netuid: int, block: int | None) -> dict[str, dict[str, float]]:
    """The weights in force, by hotkeys; what was meant for a uid's earlier holder is left out."""
    view = await _at(client, block)
    graph = await _graph(view, netuid)
    neurons = {neuron.uid: neuron for neuron in graph.neurons}
    weights: dict[str, dict[str, float]] = {}
    for uid, row in (await view.weights.weights(netuid)).items():
        validator = neurons.get(uid)
        if validator is None or validator.block_at_registration >= validator.last_update:
            continue
        meant = {
            neurons[target].hotkey: share
            for target, share in row.items()
            if target in neurons and neurons[target].block_at_registration < validator.last_update
        }
        total = sum(meant.values())
        if total > 0:
            weights[validator.hotkey] = {hotkey: share / total for hotkey, share in meant.items()}
    return weights


async def sealed(client: Client, netuid: int) -> bool:
    """Whether the subnet takes sealed weights (commit-reveal)."""
    from bittensor import storage

    return bool(await client.query(storage.SubtensorModule.CommitRevealWeightsEnabled[:2], [netuid]))


async def weights_rate_limit(client: Client, netuid: int) -> int:
    """Blocks that must pass between two sets of weights of one validator."""
    from bittensor import storage

    return int(await client.query(storage.SubtensorModule.WeightsSetRateLimit[:2], [netuid]) or 0)


def _fraction(vector: Sequence[int], uid: int) -> float | None:
    """A u16 fraction of a vector with one entry for each uid; None where the chain does not fill it."""
    return int(vector[uid]) / _U16 if uid < len(vector) else None


async def _graph(view: Snapshot, netuid: int) -> Any:
    graph = await view.subnets.metagraph(netuid, commitments=False)
    if graph is None:
        raise NoSuch(f"the chain has no subnet {netuid}")
    return graph


def _submission(hotkey: str, uid: int, record: Any) -> Submission:
    """A submission from the chain's record; whatever is odd about it becomes its fault."""
    block = 0
    try:
        block = int(record["block"])
        ((kind, value),) = [pair for field in record["info"]["fields"] for pair in field.items()]
        if not kind.startswith("Raw"):
            raise ValueError(kind)
        raw = bytes.fromhex(value.removeprefix("0x"))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return Submission(hotkey, uid, block, "", None, "malformed commitment: it is not one Raw field")
    try:
        return Submission.read(hotkey, uid, block, raw.decode())
    except UnicodeDecodeError:
        return Submission(hotkey, uid, block, f"0x{raw.hex()}", None, "malformed commitment: it is not UTF-8")
