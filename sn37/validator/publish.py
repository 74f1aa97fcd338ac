"""The last step of an epoch: the weights on the chain. Never undoes a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from filelock import FileLock

from sn37.files import write_summary
from sn37.records.decision import Publication
from sn37.records.epochs import Epoch, Records
from sn37.records.faults import StageFault
from sn37.validator.decide import Decided, weights_at
from sn37.validator.plan import Plan
from sn37.validator.settings import Settings
from sn37.validator.stages import kept_fault

if TYPE_CHECKING:
    from sn37.chain import Metagraph, Subnet

__all__ = ["amend", "publish", "same_weights", "withheld", "write_result"]

_QUANTUM = 1 / 65_535
"""The chain keeps weights as 16-bit numbers."""


def publish(decided: Decided, subnet: Subnet) -> Publication:
    """Set the weights when they changed or an hour has passed.

    Only the newest epoch is published, and only where the settings say so.

    The weights are those over the hotkeys that are registered now: one that left meanwhile gets nothing, nor does
    who took over its uid. Raises ChainFault when the chain cannot be reached; a rate limit is no fault.
    """
    plan, epoch = decided.plan, decided.epoch
    reason = withheld(plan)
    if reason:
        return Publication(decided.weights, plan.manifest.uids, reason, None, None, reason)
    # The service's own process for weights and the notebook may both be about to: the second finds them set.
    with kept_fault(epoch, "publish"), _lock(plan.settings):
        before = epoch.read(Publication)
        now = subnet.metagraph()
        uids = {neuron.hotkey: neuron.uid for neuron in now.neurons}
        weights = weights_at(plan, uids)
        chain, block, possible_from = _set_weights(plan, weights, subnet, now, before)
        publication = replace(
            before or Publication({}, {}, "", None, None, ""),
            weights=weights,
            uids={hotkey: uids[hotkey] for hotkey in weights},
            chain=chain,
            block=block,
            possible_from=possible_from,
            published_at=datetime.now(UTC),
        )
        epoch.write(publication)
        epoch.remove(StageFault)
    return publication


def amend(settings: Settings, epoch: Epoch, **told: str) -> Publication:
    """What was published of an epoch, with what became of its mirror: `mirror`, `run`, `upload`."""
    with _lock(settings):
        publication = epoch.read(Publication)
        assert publication is not None, "only what was published is mirrored"
        changed: Publication = replace(publication, **told)  # type: ignore[arg-type]
        epoch.write(changed)
    return changed


def _lock(settings: Settings) -> FileLock:
    return FileLock(settings.root / ".publish.lock")


def withheld(plan: Plan) -> str:
    """Why nothing of the plan's epoch is published; "" where it is."""
    if not plan.settings.publish:
        return "not published: publish is off"
    if not plan.newest:
        return f"not published: sync block {plan.sync_block} is past, only the newest epoch is"
    return ""


def _set_weights(
    plan: Plan, weights: Mapping[str, float], subnet: Subnet, now: Metagraph, before: Publication | None
) -> tuple[str, int | None, int | None]:
    """What became of the weights, in a sentence; the block in which this epoch's were set, if they were; the block from
    which on the chain takes them, where it would not yet.

    now: the metagraph; before: what this epoch published last.
    """
    set_at = None if before is None else before.block
    if not weights:
        return "nothing to set: no registered miner has won yet, the old weights stand", set_at, None
    me = now.neuron(subnet.hotkey)
    if me is None:
        return f"not set: hotkey {subnet.hotkey} is not registered on netuid {plan.settings.netuid}", set_at, None
    # Sealed weights stand only once they are revealed: until then only our own record knows them.
    sealed = before is not None and set_at == me.last_update and before.weights == weights
    settled = sealed or same_weights(subnet.validator_weights().get(subnet.hotkey, {}), weights)
    if settled and now.block - me.last_update < plan.settings.figures.refresh_blocks:
        return f"unchanged since block {me.last_update}", set_at, None
    result = subnet.set_weights(weights)
    told = str(result)
    if result.outcome == "set":
        stands = same_weights(subnet.validator_weights().get(subnet.hotkey, {}), weights)
        told += ", read back" if stands else ", not to be read back yet"
    foreign = _set_by_another(plan.records, me.last_update)
    return told + foreign, result.block or set_at, result.next_block


def _set_by_another(records: Records, last_update: int) -> str:
    """A sentence where the hotkey's last weights are newer than any this validator has set; "" where they are ours."""
    newest = [epoch.read(Publication) for id in records.competitions() for epoch in records.sealed(id)[-5:]]
    ours = max((made.block for made in newest if made is not None and made.block is not None), default=None)
    if ours is None or last_update <= ours:
        return ""
    return f"; those of block {last_update} were not set from these records: another validator may run on this hotkey"


def same_weights(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Whether weights are equal as far as the chain can tell them apart."""
    return all(abs(a.get(hotkey, 0.0) - b.get(hotkey, 0.0)) <= 2 * _QUANTUM for hotkey in {*a, *b})


def write_result(path: str, decided: Decided, publication: Publication) -> None:
    """Say how the run ended, for whoever started it; `path` is "" for nobody."""
    write_summary(
        path,
        str(decided),
        competition=decided.plan.competition.name,
        sync_block=decided.plan.sync_block,
        winner=decided.winner,
        weights=publication.weights,
        chain=publication.chain,
        weights_possible_from=publication.possible_from,  # run again at that block
        mirror=publication.mirror,
        upload=publication.upload,
        record=str(decided.epoch.folder),
    )
