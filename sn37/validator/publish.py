"""The last step of an epoch: the weights on the chain, the epoch mirrored to wandb. Never undoes a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sn37.validator.decide import Decision
from sn37.validator.plan import Plan
from sn37.validator.records import write_json

if TYPE_CHECKING:
    from sn37.chain import Subnet

__all__ = ["Publication", "publish", "write_result"]

_QUANTUM = 1 / 65_535
"""The chain keeps weights as 16-bit numbers."""


@dataclass(frozen=True)
class Publication:
    """What was published. chain, mirror: one sentence each on how it went."""

    weights: Mapping[str, float]
    uids: Mapping[str, int]
    chain: str
    mirror: str

    def __str__(self) -> str:
        shares = ", ".join(f"uid {self.uids[h]}: {w:.3f}" for h, w in self.weights.items()) or "none"
        return f"weights {shares}; chain: {self.chain}; wandb: {self.mirror}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


def publish(plan: Plan, decision: Decision, subnet: Subnet) -> Publication:
    """Set the weights when they changed or an hour has passed, and mirror the epoch once.

    Raises ChainFault when the chain cannot be reached; a rate limit is no fault, wandb never is.
    """
    before = decision.epoch.read("published.json") or {}
    weights = {hotkey: weight for hotkey, weight in decision.weights.items() if hotkey in plan.uids}
    chain = _set_weights(plan, weights, subnet)
    told = before.get("mirror") or _mirror(plan, decision, subnet.hotkey)
    decision.epoch.write("published.json", {"weights": weights, "chain": chain, "mirror": told})
    return Publication(weights, plan.uids, chain, told)


def _mirror(plan: Plan, decision: Decision, hotkey: str) -> str:
    if plan.settings.wandb == "off":
        return "off"
    from sn37.validator.mirror import mirror_epoch

    return mirror_epoch(plan, decision, hotkey)


def _set_weights(plan: Plan, weights: Mapping[str, float], subnet: Subnet) -> str:
    if not weights:
        return "nothing to set: no competition has a winner yet, the old weights stand"
    head = subnet.head()
    neuron = next((n for n in subnet.metagraph().neurons if n.hotkey == subnet.hotkey), None)
    if neuron is None:
        return f"not set: hotkey {subnet.hotkey} is not registered on netuid {plan.settings.netuid}"
    standing = subnet.validator_weights().get(subnet.hotkey, {})
    age = head - neuron.last_update
    if _equal(standing, weights) and age < plan.settings.figures.refresh_blocks:
        return f"unchanged since block {neuron.last_update}"
    return str(subnet.set_weights(weights))


def _equal(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return all(abs(a.get(hotkey, 0.0) - b.get(hotkey, 0.0)) <= 2 * _QUANTUM for hotkey in {*a, *b})


def write_result(path: str, plan: Plan, decision: Decision, publication: Publication) -> None:
    """Say how the run ended, for whoever started it; `path` is "" for nobody."""
    if path:
        write_json(Path(path), result_of(plan, decision, publication))


def result_of(plan: Plan, decision: Decision, publication: Publication) -> dict[str, Any]:
    """The run's outcome as plain data."""
    return {
        "summary": str(decision),
        "competition": plan.competition.name,
        "sync_block": plan.sync_block,
        "winner": decision.winner,
        "weights": publication.weights,
        "chain": publication.chain,
        "mirror": publication.mirror,
        "record": str(decision.epoch.folder),
    }
