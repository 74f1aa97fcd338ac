"""The last step of an epoch: the weights on the chain, the epoch mirrored to wandb. Never undoes a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sn37.files import write_json
from sn37.validator.decide import Decision, weights_at
from sn37.validator.plan import Plan
from sn37.validator.stages import FAULT_FILE, kept_fault

if TYPE_CHECKING:
    from sn37.chain import Metagraph, Subnet

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
    """Set the weights when they changed or an hour has passed, and mirror the epoch once; nothing where the settings
    say not to publish.

    The weights are those over the hotkeys that are registered now: one that left meanwhile gets nothing, nor does
    who took over its uid. Raises ChainFault when the chain cannot be reached; a rate limit is no fault, wandb never is.
    """
    epoch = decision.epoch
    if not plan.settings.publish:
        unpublished = "not published: publish is off"
        uids = {neuron.hotkey: neuron.uid for neuron in subnet.metagraph().neurons}
        return Publication(weights_at(plan, uids), uids, unpublished, unpublished)
    with kept_fault(epoch, "publish"):
        before = epoch.read("published.json") or {}
        now = subnet.metagraph()
        uids = {neuron.hotkey: neuron.uid for neuron in now.neurons}
        weights = weights_at(plan, uids)
        chain, block = _set_weights(plan, weights, subnet, now, before)
        told = before.get("mirror") or _mirror(plan, decision, subnet.hotkey)
        epoch.write("published.json", {"weights": weights, "chain": chain, "block": block, "mirror": told})
        epoch.remove(FAULT_FILE)
    return Publication(weights, uids, chain, told)


def _mirror(plan: Plan, decision: Decision, hotkey: str) -> str:
    if plan.settings.wandb == "off":
        return "off"
    from sn37.validator.mirror import mirror_epoch

    return mirror_epoch(plan, decision, hotkey)


def _set_weights(
    plan: Plan, weights: Mapping[str, float], subnet: Subnet, now: Metagraph, before: Mapping[str, Any]
) -> tuple[str, int | None]:
    """What became of the weights, in a sentence, and the block in which this epoch's were set, if they were.

    now: the metagraph; before: what this epoch published last.
    """
    set_at: int | None = before.get("block")
    if not weights:
        return "nothing to set: no registered miner has won yet, the old weights stand", set_at
    me = now.neuron(subnet.hotkey)
    if me is None:
        return f"not set: hotkey {subnet.hotkey} is not registered on netuid {plan.settings.netuid}", set_at
    # Sealed weights stand only once they are revealed: until then only our own record knows them.
    sealed = set_at == me.last_update and before.get("weights") == weights
    settled = sealed or _equal(subnet.validator_weights().get(subnet.hotkey, {}), weights)
    if settled and now.block - me.last_update < plan.settings.figures.refresh_blocks:
        return f"unchanged since block {me.last_update}", set_at
    result = subnet.set_weights(weights)
    return str(result), result.block or set_at


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
