"""The embedded chain: subnets, neurons and blocks in one SQLite file that the real bittensor SDK can use.

`Chain` makes one and governs it: registers hotkeys, sets stakes and rules, lets blocks pass.
Governing takes effect in the head block itself; no block passes for it. Calls that clients sign go
through `sn37.devnet.chain.substrate` and each seals the next block, as on a development node; with a
block time, blocks pass by the wall clock instead, caught up with at every touch, and a call waits
for its block. There is no daemon: every process opens the same file.

It differs from the live chain: no balances and fees, no emission amounts, no bonds (see `yuma`),
permits and stakes are given, not earned; a hotkey that never set weights need not wait for the rate
limit; block hashes come from the seed alone. Sealed weights (commit-reveal) are taken and kept, but
nothing here can open a timelock: `reveal` does what the drand beacon does on the live chain.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, unquote, urlsplit

from sn37.devnet.chain.blocks import Blocks, pace
from sn37.devnet.chain.state import (
    RAO_PER_TAO,
    U16,
    NeuronRow,
    Rules,
    neurons_at,
    pruning_order,
    rules_of,
    uid_of,
    write_neuron,
    write_weights,
)
from sn37.devnet.chain.store import Store, next_hash
from sn37.errors import ConfigError

if TYPE_CHECKING:
    from bittensor import Substrate

__all__ = ["Chain", "Rules", "open_substrate"]

_STARTED_AT = datetime(2025, 3, 1, tzinfo=UTC)
_NAMES = {1: "Apex", 9: "IOTA", 18: "Cortex.t", 37: "Finetuning"}


class Chain(Blocks):
    """An embedded chain. Make one with `Chain.create`, open it again with `Chain.open`."""

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        start_block: int = 5_200_000,
        started_at: datetime = _STARTED_AT,
        netuids: Collection[int] = (37,),
        seed: str = "devnet",
        block_time_s: float | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> Chain:
        """A new chain in a new file. Its first block is `start_block`, of the time `started_at`.

        seed: decides every block hash. block_time_s: blocks pass by themselves, one in so many
        seconds of the wall clock; None: on command. Chain time is 12 s a block either way.
        """
        if start_block < 1 or started_at.tzinfo is None:
            raise ConfigError("a chain starts at block 1 or later and at a time with a time zone")
        parent = next_hash(seed, "genesis", start_block - 1)
        meta = {
            "seed": seed,
            "genesis": parent,
            "start_block": start_block,
            "started_at": started_at.timestamp(),
            "pace": pace(block_time_s, start_block, wall_clock()),
            "fault": None,
            "pruned_before": 0,
        }
        subnets = [(netuid, _NAMES.get(netuid, f"subnet {netuid}"), asdict(Rules())) for netuid in netuids]
        file = Path(path).absolute()
        file.parent.mkdir(parents=True, exist_ok=True)
        return cls(Store.create(file, meta, subnets, start_block, parent), wall_clock)

    @classmethod
    def open(cls, path: Path | str, wall_clock: Callable[[], float] = time.time) -> Chain:
        """The chain in that file. Raises ConfigError when there is none."""
        return cls(Store(Path(path).absolute()), wall_clock)

    @property
    def url(self) -> str:
        """What to give as `network` to `sn37.chain.Subnet`."""
        return f"sqlite://{quote(str(self.store.path))}"

    def substrate(self) -> Substrate:
        """The chain as the SDK's clients take it: `bittensor.Subtensor("local", substrate=...)`."""
        from sn37.devnet.chain.substrate import EmbeddedSubstrate

        # A client closes what it was given: it gets the file for itself.
        return EmbeddedSubstrate(Chain.open(self.store.path, self._wall_clock))

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        self.store.close()

    # Subnets and neurons --------------------------------------------------------------------------

    @property
    def netuids(self) -> tuple[int, ...]:
        """The subnets of this chain."""
        return tuple(row["netuid"] for row in self.store.rows("SELECT netuid FROM subnets ORDER BY netuid"))

    def add_subnet(self, netuid: int, name: str = "", rules: Rules | None = None) -> None:
        """A new subnet without neurons."""
        text = json.dumps(asdict(rules or Rules()))
        with self.store.writing() as database:
            if rules_of(self.store, netuid):
                raise ConfigError(f"there is a subnet {netuid} already; expected an unused netuid")
            name = name or _NAMES.get(netuid, f"subnet {netuid}")
            database.execute("INSERT INTO subnets VALUES (?, ?, ?)", (netuid, name, text))

    def set_rules(self, netuid: int, **changes: Any) -> Rules:
        """Change some of a subnet's rules (see `Rules`) for all blocks, also the past ones."""
        with self.store.writing() as database:
            rules = replace(self._rules(netuid), **changes)
            database.execute("UPDATE subnets SET rules = ? WHERE netuid = ?", (json.dumps(asdict(rules)), netuid))
        return rules

    def neurons(self, netuid: int, block: int | None = None) -> list[NeuronRow]:
        """The subnet's neurons as of a block (the head, when None), in the order of their uids."""
        return neurons_at(self.store, netuid, self.head() if block is None else block)

    def register(self, netuid: int, hotkey: str, coldkey: str = "", stake: float = 0.0, permit: bool = False) -> int:
        """Give a hotkey a uid in the head block; in a full subnet that of the neuron pruned first.

        stake: in TAO. Returns the uid. Raises ConfigError when the hotkey is registered already.
        """
        with self._governing() as head:
            rules, neurons = self._rules(netuid), neurons_at(self.store, netuid, head)
            uid = len(neurons)
            if uid >= rules.max_uids:
                uid = pruning_order(neurons, head, rules.immunity_blocks)[0].uid
            self._seat(netuid, uid, hotkey, coldkey, stake, permit, head)
            return uid

    def replace(
        self, netuid: int, uid: int, hotkey: str, coldkey: str = "", stake: float = 0.0, permit: bool = False
    ) -> None:
        """Let another hotkey take over a uid in the head block; it inherits nothing."""
        with self._governing() as head:
            if uid not in {neuron.uid for neuron in neurons_at(self.store, netuid, head)}:
                raise ConfigError(f"subnet {netuid} has no uid {uid}")
            self._seat(netuid, uid, hotkey, coldkey, stake, permit, head)

    def set_stake(self, netuid: int, hotkey: str, stake: float) -> None:
        """Change a neuron's stake, in TAO, from the head block on."""
        self._change(netuid, hotkey, "stake", _rao(stake))

    def set_permit(self, netuid: int, hotkey: str, permit: bool) -> None:
        """Give or take a neuron's validator permit from the head block on."""
        self._change(netuid, hotkey, "permit", int(permit))

    def reveal(self, netuid: int, hotkey: str, weights: Mapping[str, float]) -> None:
        """Open a validator's sealed weights: they are in force from the head block on.

        Stands in for the drand beacon, which alone could decrypt them; weights: what was sealed.
        """
        with self._governing() as head:
            uids = {neuron.hotkey: neuron.uid for neuron in neurons_at(self.store, netuid, head)}
            opened = self.store.connection.execute(
                "UPDATE sealed SET opened = ? WHERE netuid = ? AND hotkey = ? AND opened IS NULL",
                (head, netuid, hotkey),
            )
            if opened.rowcount == 0:
                raise ConfigError(f"{hotkey} has no sealed weights on subnet {netuid}")
            top = max(weights.values())
            row = [(uids[target], round(weight / top * U16)) for target, weight in sorted(weights.items())]
            write_weights(self.store, netuid, uids[hotkey], head, row)

    def _seat(self, netuid: int, uid: int, hotkey: str, coldkey: str, stake: float, permit: bool, head: int) -> None:
        if uid_of(self.store, netuid, hotkey, head) is not None:
            raise ConfigError(f"{hotkey} is registered on subnet {netuid} already")
        # Calls waiting for the next block have written rows for it already; the uid's earlier holder made them.
        for table in ("neurons", "weights"):
            self.store.connection.execute(
                f"DELETE FROM {table} WHERE netuid = ? AND uid = ? AND block > ?", (netuid, uid, head)
            )
        write_neuron(
            self.store, netuid, NeuronRow(uid, head, hotkey, coldkey or hotkey, _rao(stake), permit, registered=head)
        )
        write_weights(self.store, netuid, uid, head, [])

    def _change(self, netuid: int, hotkey: str, column: str, value: int) -> None:
        with self._governing() as head:
            neuron = next((n for n in neurons_at(self.store, netuid, head) if n.hotkey == hotkey), None)
            if neuron is None:
                raise ConfigError(f"{hotkey} is not registered on subnet {netuid}")
            write_neuron(self.store, netuid, replace(neuron, block=head))
            self.store.connection.execute(
                f"UPDATE neurons SET {column} = ? WHERE netuid = ? AND uid = ? AND block >= ?",
                (value, netuid, neuron.uid, head),
            )

    # Faults ---------------------------------------------------------------------------------------

    def fail(self, how: Literal["silent", "refusing", "forgetful"], calls: int | None = None) -> None:
        """Let clients meet a broken node, for so many of their calls (for all, when None).

        silent: never answers; refusing: breaks the connection; forgetful: does what a signed call
        asks, then breaks the connection.
        """
        with self.store.writing():
            self.store.set_meta(fault={"how": how, "calls": calls})

    def recover(self) -> None:
        """Answer again."""
        with self.store.writing():
            self.store.set_meta(fault=None)

    def prune(self, before: int) -> None:
        """Forget the state of the blocks before `before`, as a node that is no archive does."""
        with self.store.writing():
            self.store.set_meta(pruned_before=before)


def open_substrate(url: str) -> Substrate:
    """The substrate of `sqlite:///path/of/the/file`: what the entry point `sn37.substrates` names."""
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or not parts.path:
        raise ConfigError(f"{url!r} names no chain; expected sqlite:///absolute/path")
    return Chain.open(unquote(parts.path)).substrate()


def _rao(stake: float) -> int:
    if not (math.isfinite(stake) and stake >= 0):
        raise ConfigError(f"a stake of {stake} TAO is impossible; expected 0 or more")
    return round(stake * RAO_PER_TAO)
