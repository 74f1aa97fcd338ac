"""What the embedded chain's rows mean: a subnet's rules, its neurons, commitments and weights at a block.

Reads and writes versioned rows; decides nothing and refuses nothing (see `calls`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
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
    "is_active",
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

    They are not versioned: a change holds for historic reads too.
    """

    tempo: int = 360
    """Blocks between two consensus steps, less one."""
    max_uids: int = 256
    """Places on the subnet."""
    immunity_blocks: int = 5_000
    """So long after its registration a neuron is not pruned before others."""
    min_allowed_weights: int = 1
    """The least number of weights in a row."""
    max_weight_limit: int = U16
    """The largest share one weight may have, as a u16 fraction."""
    weights_rate_limit: int = 100
    """Blocks between two rows of weights of one validator."""
    weights_version: int = 0
    """The least version key that is taken."""
    min_stake: float = 0.0
    """The least stake to set weights with, in TAO."""
    commitment_rate_limit: int = 100
    """Blocks between two commitments of one hotkey."""
    commitment_bytes: int = 3_100
    """What one hotkey may commit in an epoch of the subnet; each commitment counts as 100 bytes at least."""
    activity_blocks: int = 5_000
    """A validator whose weights are older has no part in the consensus."""
    kappa: float = 0.5
    """The share of the voting stake that must support a weight."""
    commit_reveal: bool = False
    """Whether weights are sealed."""
    reveal_epochs: int = 1
    """After how many epochs of the subnet sealed weights are opened."""

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
    """One uid as it is from `block` on. Scores are u16 fractions.

    Rank, trust and pruning score are not kept: the live chain leaves them empty since spec 394.
    """

    uid: int
    """Its place on the subnet."""
    block: int
    """From which block on this row holds."""
    hotkey: str
    """Address of the key that signs for it."""
    coldkey: str
    """Address of its owner."""
    stake: int
    """In rao."""
    permit: bool
    """Whether it may validate."""
    registered: int
    """The block at which the hotkey got the uid."""
    last_update: int = 0
    """The block of its newest weights; 0: never."""
    consensus: int = 0
    """The weight that stake of at least kappa supports."""
    incentive: int = 0
    """Its share as a miner."""
    validator_trust: int = 0
    """What is left of its weights after clipping."""
    dividends: int = 0
    """Its share as a validator."""


@dataclass(frozen=True)
class Commitment:
    """A hotkey's newest commitment."""

    hotkey: str
    """Who committed."""
    block: int
    """When."""
    fields: list[dict[str, str]]
    """What, as the chain answers it: `[{"Raw5": "0x..."}]`."""


_COLUMNS = [field.name for field in fields(NeuronRow)]
_SCORES = ("consensus", "incentive", "validator_trust", "dividends")


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
    store.insert("neurons", netuid=netuid, **asdict(row))


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
    store.insert("weights", netuid=netuid, uid=uid, block=block, row=json.dumps(list(row)))


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
            active=is_active(neuron, rules, block),
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
            write_neuron(store, netuid, replace(neuron, block=block, **scores))


def is_active(neuron: NeuronRow, rules: Rules, block: int) -> bool:
    """Whether a neuron's weights are young enough to count at a block."""
    return neuron.last_update + rules.activity_blocks >= block


def pruning_order(neurons: Sequence[NeuronRow], block: int, immunity_blocks: int) -> list[NeuronRow]:
    """Who loses the uid first when the subnet is full.

    Those past their immunity before those within it; the lowest incentive and dividends first, then
    the oldest registration, then the lowest uid.
    """
    return sorted(
        neurons,
        key=lambda n: (block - n.registered < immunity_blocks, n.incentive + n.dividends, n.registered, n.uid),
    )
