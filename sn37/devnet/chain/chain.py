"""The embedded chain, administered: hotkeys registered, stakes and rules set, sealed weights opened.

An administrator's change takes effect in the head block itself; no block passes for it. Calls that clients
sign go through `substrate`, and each seals the next block, as on a development node; with a block time,
blocks pass by the wall clock instead, caught up with at every touch, and a call waits for its block.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from urllib.parse import quote

from sn37.devnet.chain.blocks import Blocks, Pace
from sn37.devnet.chain.state import (
    RAO_PER_TAO,
    U16,
    NeuronRow,
    Rules,
    neurons_at,
    pruning_order,
    uid_of,
    write_neuron,
    write_weights,
)
from sn37.devnet.chain.store import Origin, Store
from sn37.errors import ConfigError

__all__ = ["Chain"]

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
    ) -> Self:
        """A new chain in a new file. Its first block is `start_block`, of the time `started_at`.

        seed: decides every block hash. block_time_s: blocks pass by themselves, one in so many
        seconds of the wall clock; None: on command. Chain time is 12 s a block either way.
        """
        if start_block < 1 or started_at.tzinfo is None:
            raise ConfigError("a chain starts at block 1 or later and at a time with a time zone")
        if block_time_s is not None:
            Pace(block_time_s, start_block, 0.0)  # refused before there is a file
        origin = Origin(seed, start_block, started_at.timestamp())
        rules = json.dumps(asdict(Rules()))
        subnets = {netuid: (_NAMES.get(netuid, f"subnet {netuid}"), rules) for netuid in netuids}
        chain = cls(Store.create(Path(path).absolute(), origin, subnets), wall_clock)
        if block_time_s is not None:
            chain.set_block_time(block_time_s)
        return chain

    @classmethod
    def open(cls, path: Path | str, wall_clock: Callable[[], float] = time.time) -> Self:
        """The chain in that file. Raises ConfigError when there is none."""
        return cls(Store(Path(path).absolute()), wall_clock)

    @property
    def url(self) -> str:
        """What to give as `network` to `sn37.chain.Subnet`."""
        return f"sqlite://{quote(str(self.store.path))}"

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        self.store.close()

    # Subnets and neurons --------------------------------------------------------------------------

    @property
    def netuids(self) -> tuple[int, ...]:
        """The subnets of this chain."""
        return tuple(self.store.netuids())

    def set_rules(self, netuid: int, **changes: int | float) -> Rules:
        """Change some of a subnet's rules (see `Rules`) for all blocks, also the past ones."""
        with self.store.writing() as database:
            rules = replace(self._rules(netuid), **changes)  # type: ignore[arg-type]
            database.execute("UPDATE subnets SET rules = ? WHERE netuid = ?", (json.dumps(asdict(rules)), netuid))
        return rules

    def neurons(self, netuid: int, block: int | None = None) -> list[NeuronRow]:
        """The subnet's neurons as of a block (the head, when None), in the order of their uids."""
        return neurons_at(self.store, netuid, self.head() if block is None else block)

    def register(self, netuid: int, hotkey: str, coldkey: str = "", stake: float = 0.0, permit: bool = False) -> int:
        """Give a hotkey a uid in the head block; in a full subnet that of the neuron pruned first.

        stake: in TAO. Returns the uid. Raises ConfigError when the hotkey is registered already.
        """
        with self._changing() as head:
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
        with self._changing() as head:
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
        with self._changing() as head:
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
        with self._changing() as head:
            neuron = next((n for n in neurons_at(self.store, netuid, head) if n.hotkey == hotkey), None)
            if neuron is None:
                raise ConfigError(f"{hotkey} is not registered on subnet {netuid}")
            write_neuron(self.store, netuid, replace(neuron, block=head))
            self.store.connection.execute(
                f"UPDATE neurons SET {column} = ? WHERE netuid = ? AND uid = ? AND block >= ?",
                (value, netuid, neuron.uid, head),
            )

    def prune(self, before: int) -> None:
        """Forget the state of the blocks before `before`, as a node that is no archive does."""
        with self.store.writing():
            self.store.insert("meta", name="pruned_before", value=str(before))

    @property
    def pruned_before(self) -> int:
        """The first block whose state can be read."""
        return int(self.store.meta("pruned_before") or 0)


def _rao(stake: float) -> int:
    if not (math.isfinite(stake) and stake >= 0):
        raise ConfigError(f"a stake of {stake} TAO is impossible; expected 0 or more")
    return round(stake * RAO_PER_TAO)
