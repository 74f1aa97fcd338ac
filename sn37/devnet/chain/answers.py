"""How the embedded chain answers a client's reads: storage items and runtime calls in the live chain's shapes.

Reads rows as of one block and shapes them; an item it does not keep is an error by name, never an
invented value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bittensor import ChainError

from sn37.devnet.chain.chain import Chain
from sn37.devnet.chain.state import (
    NeuronRow,
    Rules,
    commitments_at,
    is_active,
    last_step,
    neurons_at,
    rules_of,
    weights_at,
)

__all__ = ["storage", "storage_map", "subnet_metagraph", "subnet_neurons"]

Params = Sequence[int | str]
Pair = tuple[int | str, object]
"""A key of a storage map, and its value."""

_BLOCK_HASHES = 2_400
"""Of so many blocks before it a state knows the hashes."""

_SYMBOL = "\N{GREEK SMALL LETTER ALPHA}".encode()


def storage(chain: Chain, item: str, params: Params, block: int) -> object:
    """The value of a storage item (`Pallet.Item`) as of `block`; None where it has none. Raises ChainError."""
    if item == "Timestamp.Now":
        return round(chain.timestamp(block).timestamp() * 1000)
    if item == "System.BlockHash":
        return _recent_hash(chain, int(params[0]), block)
    if item in _KEYED:
        wanted = list(params)
        pairs = storage_map(chain, item, wanted[:1], block)
        return next((value for key, value in pairs if key == wanted[1]), None)
    pallet, _, name = item.partition(".")
    if pallet != "SubtensorModule" or len(params) != 1:
        raise ChainError(f"the embedded chain keeps no {item}")
    netuid = int(params[0])
    rules = rules_of(chain.store, netuid)
    if name in _RULES:
        return None if rules is None else _RULES[name](rules, netuid, block)
    if name in _VECTORS:
        return [_VECTORS[name](neuron) for neuron in neurons_at(chain.store, netuid, block)]
    if name == "SubnetworkN":
        return len(neurons_at(chain.store, netuid, block))
    raise ChainError(f"the embedded chain keeps no {item}")


def _recent_hash(chain: Chain, number: int, block: int) -> str | None:
    """The hash of one of the last blocks before `block`: more of them the state does not keep."""
    return chain.store.hash_of(number) if block - _BLOCK_HASHES <= number < block else None


def storage_map(chain: Chain, item: str, params: Params, block: int) -> list[Pair]:
    """All (key, value) pairs of a storage map as of `block`. Raises ChainError."""
    if item in _PER_SUBNET:
        return [(netuid, _PER_SUBNET[item](chain, netuid, block)) for netuid in chain.netuids]
    if item not in _KEYED or len(params) != 1:
        raise ChainError(f"the embedded chain keeps no map {item}")
    return _KEYED[item](chain, int(params[0]), block)


def _commitments(chain: Chain, netuid: int, block: int) -> list[Pair]:
    return [
        (c.hotkey, {"deposit": 0, "block": c.block, "info": {"fields": c.fields}})
        for c in commitments_at(chain.store, netuid, block)
    ]


def _sealed(chain: Chain, netuid: int, block: int) -> list[Pair]:
    rules = rules_of(chain.store, netuid) or Rules()
    rows = chain.store.rows(
        "SELECT * FROM sealed WHERE netuid = ? AND block <= ? AND (opened IS NULL OR opened > ?) ORDER BY block",
        netuid,
        block,
        block,
    )
    epochs: dict[int, list[tuple[str, int, str, int]]] = {}
    for row in rows:
        epoch = _epoch_index(rules, netuid, row["block"])
        entry = (row["hotkey"], row["block"], "0x" + row["ciphertext"].hex(), row["round"])
        epochs.setdefault(epoch, []).append(entry)
    return [(epoch, epochs[epoch]) for epoch in sorted(epochs)]


def _epoch_index(rules: Rules, netuid: int, block: int) -> int:
    return (block + netuid + 1) // (rules.tempo + 1)


_KEYED: dict[str, Callable[[Chain, int, int], list[Pair]]] = {
    "Commitments.CommitmentOf": _commitments,
    "Commitments.RevealedCommitments": lambda chain, netuid, block: [],
    "SubtensorModule.Keys": lambda chain, netuid, block: [
        (n.uid, n.hotkey) for n in neurons_at(chain.store, netuid, block)
    ],
    "SubtensorModule.TimelockedWeightCommits": _sealed,
    "SubtensorModule.Uids": lambda chain, netuid, block: [
        (n.hotkey, n.uid) for n in neurons_at(chain.store, netuid, block)
    ],
    "SubtensorModule.Weights": lambda chain, netuid, block: list(weights_at(chain.store, netuid, block).items()),
}

_PER_SUBNET: dict[str, Callable[[Chain, int, int], object]] = {
    "SubtensorModule.Burn": lambda chain, netuid, block: 0,
    "SubtensorModule.NetworksAdded": lambda chain, netuid, block: True,
    "SubtensorModule.SubnetworkN": lambda chain, netuid, block: len(neurons_at(chain.store, netuid, block)),
    "SubtensorModule.Tempo": lambda chain, netuid, block: (rules_of(chain.store, netuid) or Rules()).tempo,
    "SubtensorModule.TokenSymbol": lambda chain, netuid, block: list(_SYMBOL),
}

_RULES: dict[str, Callable[[Rules, int, int], object]] = {
    "ActivityCutoff": lambda rules, netuid, block: rules.activity_blocks,
    "BlocksSinceLastStep": lambda rules, netuid, block: block - last_step(netuid, rules.tempo, block),
    "Burn": lambda rules, netuid, block: 0,
    "CommitRevealWeightsEnabled": lambda rules, netuid, block: rules.commit_reveal,
    "ImmunityPeriod": lambda rules, netuid, block: rules.immunity_blocks,
    "LastEpochBlock": lambda rules, netuid, block: last_step(netuid, rules.tempo, block),
    "MaxAllowedUids": lambda rules, netuid, block: rules.max_uids,
    "MaxWeightsLimit": lambda rules, netuid, block: rules.max_weight_limit,
    "MinAllowedWeights": lambda rules, netuid, block: rules.min_allowed_weights,
    "PendingEpochAt": lambda rules, netuid, block: 0,
    "RevealPeriodEpochs": lambda rules, netuid, block: rules.reveal_epochs,
    "SubnetEpochConsensus": lambda rules, netuid, block: "Yuma",
    "SubnetEpochIndex": lambda rules, netuid, block: _epoch_index(rules, netuid, block),
    "Tempo": lambda rules, netuid, block: rules.tempo,
    "WeightsSetRateLimit": lambda rules, netuid, block: rules.weights_rate_limit,
    "WeightsVersionKey": lambda rules, netuid, block: rules.weights_version,
}

_VECTORS: dict[str, Callable[[NeuronRow], object]] = {
    "Consensus": lambda neuron: neuron.consensus,
    "Dividends": lambda neuron: neuron.dividends,
    "Incentive": lambda neuron: neuron.incentive,
    "LastUpdate": lambda neuron: neuron.last_update,
    "ValidatorPermit": lambda neuron: neuron.permit,
    "ValidatorTrust": lambda neuron: neuron.validator_trust,
}


def subnet_metagraph(chain: Chain, netuid: int, block: int) -> dict[str, object] | None:
    """`SubnetInfoRuntimeApi.get_metagraph`: the subnet as parallel columns, or None."""
    rules = rules_of(chain.store, netuid)
    if rules is None:
        return None
    neurons = neurons_at(chain.store, netuid, block)
    row = chain.store.one("SELECT name FROM subnets WHERE netuid = ?", netuid)
    stepped = last_step(netuid, rules.tempo, block)
    owner = neurons[0] if neurons else None

    def column(name: str) -> list[object]:
        return [getattr(neuron, name) for neuron in neurons]

    return {
        "netuid": netuid,
        "name": list(str(row["name"] if row else "").encode()),
        "symbol": list(_SYMBOL),
        "block": block,
        "tempo": rules.tempo,
        "last_step": stepped,
        "blocks_since_last_step": block - stepped,
        "owner_hotkey": owner.hotkey if owner else "",
        "owner_coldkey": owner.coldkey if owner else "",
        "network_registered_at": chain.store.origin.start_block,
        "num_uids": len(neurons),
        "max_uids": rules.max_uids,
        "hotkeys": column("hotkey"),
        "coldkeys": column("coldkey"),
        "active": [is_active(neuron, rules, block) for neuron in neurons],
        "validator_permit": column("permit"),
        "last_update": column("last_update"),
        "block_at_registration": column("registered"),
        "rank": [],  # empty on the live chain, too, as are trust and pruning score
        "trust": [],
        "pruning_score": [],
        "consensus": column("consensus"),
        "incentives": column("incentive"),
        "dividends": column("dividends"),
        "alpha_stake": column("stake"),
        "tao_stake": [0] * len(neurons),
        "total_stake": column("stake"),
    }


def subnet_neurons(chain: Chain, netuid: int, block: int, *, lite: bool) -> list[dict[str, object]]:
    """`NeuronInfoRuntimeApi.get_neurons` (or `get_neurons_lite`): one record per uid."""
    rules = rules_of(chain.store, netuid) or Rules()
    weights = {} if lite else weights_at(chain.store, netuid, block)
    records = []
    for neuron in neurons_at(chain.store, netuid, block):
        record = {
            "netuid": netuid,
            "uid": neuron.uid,
            "hotkey": neuron.hotkey,
            "coldkey": neuron.coldkey,
            "active": is_active(neuron, rules, block),
            "validator_permit": neuron.permit,
            "last_update": neuron.last_update,
            "stake": [(neuron.coldkey, neuron.stake)],
            "rank": 0,
            "trust": 0,
            "consensus": neuron.consensus,
            "incentive": neuron.incentive,
            "dividends": neuron.dividends,
            "validator_trust": neuron.validator_trust,
            "emission": 0,
            "pruning_score": 0,
        }
        records.append(record if lite else {**record, "weights": weights.get(neuron.uid, []), "bonds": []})
    return records
