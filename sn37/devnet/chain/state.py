"""What the embedded chain's rows mean: a subnet's rules, its neurons, commitments and weights at a block.

Reads and writes versioned rows; decides nothing and refuses nothing (see `calls`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction

from sn37.devnet import yuma
from sn37.devnet.chain.store import Store

__all__ = [
    "RAO_PER_TAO",
    "U16",
    "Commitment",
    "NeuronRow",
    "Rules",
    "commitments_at",
    "consensus_step",
    "last_step",
    "neurons_at",
    "next_step",
    "pruning_order",
    "rules_of",
    "uid_of",
    "weights_at",
    "write_neuron",
    "write_weights",
]

RAO_PER_TAO = 10**9
U16 = 65_535


@dataclass(frozen=True)
class Rules:
    """The settings of one subnet; the defaults are those of the live subnet 37, but for commit-reveal.

    Lengths are in blocks, stakes in TAO, limits of weights in u16 fractions. They are not versioned:
    a change holds for historic reads too.
    """

    tempo: int = 360
    max_uids: int = 256
    immunity_blocks: int = 5_000
    min_allowed_weights: int = 1
    max_weight_limit: int = U16
    weights_rate_limit: int = 100
    weights_version: int = 0
    min_stake: float = 0.0
    commitment_rate_limit: int = 100
    commitment_bytes: int = 3_100
    activity_blocks: int = 5_000
    kappa: float = 0.5
    commit_reveal: bool = False
    reveal_epochs: int = 1

    def __post_init__(self) -> None:
        for name in ("tempo", "max_uids", "commitment_bytes", "activity_blocks", "reveal_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not 0 < self.kappa <= 1:
            raise ValueError(f"kappa is {self.kappa}; expected a share in (0, 1]")
        if not 0 < self.max_weight_limit <= U16:
            raise ValueError(f"max_weight_limit is {self.max_weight_limit}; expected 1 to {U16}")


@dataclass(frozen=True)
class NeuronRow:
    """One uid as it is from `block` on. Stake in rao; scores as u16 fractions; last_update 0: never."""

    uid: int
    block: int
    hotkey: str
    coldkey: str
    stake: int
    permit: bool
    registered: int
    last_update: int = 0
    rank: int = 0
    trust: int = 0
    consensus: int = 0
    incentive: int = 0
    validator_trust: int = 0
    dividends: int = 0


@dataclass(frozen=True)
class Commitment:
    """A hotkey's commitment. fields: as the chain answers them, `[{"Raw5": "0x..."}]`."""

    hotkey: str
    block: int
    fields: list[dict[str, str]]


_COLUMNS = [field.name for field in fields(NeuronRow)]
_SCORES = ("rank", "trust", "consensus", "incentive", "validator_trust", "dividends")


def rules_of(store: Store, netuid: int) -> Rules | None:
    """The subnet's rules, or None where there is no such subnet."""
    row = store.one("SELECT rules FROM subnets WHERE netuid = ?", netuid)
    return None if row is None else Rules(**json.loads(row["rules"]))


def neurons_at(store: Store, netuid: int, block: int) -> list[NeuronRow]:
    """All neurons of a subnet as of `block`, in the order of their uids."""
    names = ", ".join(name for name in _COLUMNS if name != "block")
    rows = store.rows(
        f"SELECT {names}, MAX(block) AS block FROM neurons WHERE netuid = ? AND block <= ? GROUP BY uid ORDER BY uid",
        netuid,
        block,
    )
    return [NeuronRow(**{**dict(row), "permit": bool(row["permit"])}) for row in rows]


def uid_of(store: Store, netuid: int, hotkey: str, block: int) -> int | None:
    """The uid a hotkey holds as of `block`, or None."""
    return next((n.uid for n in neurons_at(store, netuid, block) if n.hotkey == hotkey), None)


def write_neuron(store: Store, netuid: int, row: NeuronRow) -> None:
    """Let a uid be `row` from `row.block` on; only inside `writing`."""
    values = [netuid, *(getattr(row, name) for name in _COLUMNS)]
    store.connection.execute(
        f"INSERT OR REPLACE INTO neurons (netuid, {', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(values))})",
        values,
    )


def commitments_at(store: Store, netuid: int, block: int) -> list[Commitment]:
    """The latest commitment of every hotkey as of `block`, also of hotkeys no longer registered."""
    rows = store.rows(
        "SELECT hotkey, MAX(block) AS block, fields FROM commitments"
        " WHERE netuid = ? AND block <= ? GROUP BY hotkey ORDER BY hotkey",
        netuid,
        block,
    )
    return [Commitment(row["hotkey"], row["block"], json.loads(row["fields"])) for row in rows]


def weights_at(store: Store, netuid: int, block: int) -> dict[int, list[tuple[int, int]]]:
    """The weights in force as of `block`: validator uid -> (uid, u16) pairs."""
    rows = store.rows(
        "SELECT uid, MAX(block) AS block, row FROM weights WHERE netuid = ? AND block <= ? GROUP BY uid ORDER BY uid",
        netuid,
        block,
    )
    parsed = {row["uid"]: [(int(uid), int(weight)) for uid, weight in json.loads(row["row"])] for row in rows}
    return {uid: row for uid, row in parsed.items() if row}


def write_weights(store: Store, netuid: int, uid: int, block: int, row: Sequence[tuple[int, int]]) -> None:
    """Let a validator's weights be `row` from `block` on; only inside `writing`."""
    store.connection.execute(
        "INSERT OR REPLACE INTO weights VALUES (?, ?, ?, ?)", (netuid, uid, block, json.dumps(list(row)))
    )


def last_step(netuid: int, tempo: int, block: int) -> int:
    """The newest block at or before `block` with a consensus step: the live chain's beat, tempo + 1 blocks."""
    return block - (block + netuid + 1) % (tempo + 1)


def next_step(netuid: int, tempo: int, block: int) -> int:
    """The first block after `block` with a consensus step."""
    return last_step(netuid, tempo, block) + tempo + 1


def consensus_step(store: Store, netuid: int, rules: Rules, block: int) -> None:
    """Run the subnet's Yuma step at `block` and keep what it changed; only inside `writing`."""
    neurons = neurons_at(store, netuid, block)
    weights = weights_at(store, netuid, block)
    peers = [
        yuma.Peer(
            stake=neuron.stake,
            permit=neuron.permit,
            active=neuron.last_update + rules.activity_blocks >= block,
            registered=neuron.registered,
            last_update=neuron.last_update,
            weights=dict(weights.get(neuron.uid, [])),
        )
        for neuron in neurons
    ]
    outcome = yuma.step(peers, Fraction(rules.kappa).limit_denominator(U16))
    for neuron in neurons:
        scores = {name: round(getattr(outcome, name)[neuron.uid] * U16) for name in _SCORES}
        if any(getattr(neuron, name) != value for name, value in scores.items()):
            write_neuron(store, netuid, NeuronRow(**{**asdict(neuron), **scores, "block": block}))


def pruning_order(neurons: Sequence[NeuronRow], block: int, immunity_blocks: int) -> list[NeuronRow]:
    """Who loses the uid first when the subnet is full.

    Those past their immunity before those within it; the lowest incentive and dividends first, then
    the oldest registration, then the lowest uid.
    """
    return sorted(
        neurons,
        key=lambda n: (block - n.registered < immunity_blocks, n.incentive + n.dividends, n.registered, n.uid),
    )
