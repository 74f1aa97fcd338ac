"""What the chain answers, as plain values: neurons, a metagraph, what became of a set of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sn37.html import table

__all__ = ["Metagraph", "Neuron", "WeightsResult"]


@dataclass(frozen=True)
class Neuron:
    """One uid of a subnet. Shares lie in [0, 1], higher is better; None where the chain does not fill them."""

    uid: int
    """Its place on the subnet."""
    hotkey: str
    """Address of the key that signs for it."""
    coldkey: str
    """Address of its owner."""
    stake: float
    """In TAO."""
    validator_permit: bool
    """Whether it may validate."""
    incentive: float
    """Its share as a miner."""
    trust: float | None
    """How far the weights it got agree; None since spec 394 of the live chain, which no longer computes it."""
    validator_trust: float | None
    """How far the weights it set agree with the others'."""
    last_update: int
    """The block of its newest weights; 0: never."""


@dataclass(frozen=True)
class Metagraph:
    """All neurons of a subnet at one block."""

    netuid: int
    """The subnet's number."""
    block: int
    """As of which block."""
    neurons: tuple[Neuron, ...]
    """In the order of their uids."""

    @cached_property
    def _by_hotkey(self) -> Mapping[str, Neuron]:
        return {neuron.hotkey: neuron for neuron in self.neurons}

    @property
    def hotkeys(self) -> tuple[str, ...]:
        """The hotkeys, in the order of their uids."""
        return tuple(neuron.hotkey for neuron in self.neurons)

    def uid_of(self, hotkey: str) -> int | None:
        """The uid the hotkey holds, or None when it is not registered."""
        neuron = self._by_hotkey.get(hotkey)
        return None if neuron is None else neuron.uid

    def neuron(self, hotkey: str) -> Neuron | None:
        """The hotkey's neuron, or None when it is not registered."""
        return self._by_hotkey.get(hotkey)

    def trusted(self, min_stake: float) -> frozenset[str]:
        """The hotkeys with a validator permit and at least `min_stake` TAO."""
        return frozenset(n.hotkey for n in self.neurons if n.validator_permit and n.stake >= min_stake)

    def __repr__(self) -> str:
        return f"Metagraph(netuid={self.netuid}, block={self.block}, neurons={len(self.neurons)})"

    def _repr_html_(self) -> str:
        columns = ("uid", "hotkey", "stake (TAO)", "permit", "incentive", "trust", "validator trust", "weights set at")
        rows = [
            (
                *(n.uid, n.hotkey, f"{n.stake:,.1f}", n.validator_permit),
                *(n.incentive, n.trust, n.validator_trust, n.last_update or None),
            )
            for n in self.neurons
        ]
        return table(columns, rows, f"Subnet {self.netuid} at block {self.block}: {len(self.neurons)} neurons")


@dataclass(frozen=True)
class WeightsResult:
    """What became of a set of weights. True unless nothing was sent."""

    outcome: Literal["set", "committed", "too soon"]
    """`set`: they are in force; `committed`: sealed, in force once the chain reveals them; `too soon`: the chain's
    rate limit, not an error: nothing was sent."""
    block: int | None = None
    """Where they were included."""
    next_block: int | None = None
    """From which block on new weights are taken, when it was too soon."""
    reveal_round: int | None = None
    """The drand round that opens sealed weights."""

    dropped: tuple[str, ...] = ()
    """Hotkeys left out because they are not registered."""

    def __bool__(self) -> bool:
        return self.outcome != "too soon"

    def __repr__(self) -> str:
        match self.outcome:
            case "set":
                text = f"weights set at block {self.block}"
            case "committed":
                text = f"weights committed at block {self.block}, revealed at drand round {self.reveal_round}"
            case _:
                text = f"too soon for new weights; possible from block {self.next_block}"
        return f"{text} ({len(self.dropped)} unregistered hotkeys left out)" if self.dropped else text
