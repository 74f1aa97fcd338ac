"""After the weights: the epoch in wandb and on the hub, for those who have none of this validator's records.

A mirror, never the truth, and never in the way: weights are set before, whatever fails here ends as a sentence in the
record, and is tried again with a later epoch. Both are made of the records alone: every published epoch that wandb or
the dataset does not have yet goes there, the oldest first.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.data.published import RECORD_FIELD, dataset_file
from sn37.errors import DataFault
from sn37.records.archive import pack
from sn37.records.decision import Publication
from sn37.records.epochs import Epoch, Records
from sn37.validator.decide import Decided, competition_weights_at, weights_at
from sn37.validator.plan import Plan
from sn37.validator.publish import amend, withheld
from sn37.validator.settings import Settings
from sn37.validator.step import step_of
from sn37.validator.wandb_mirror import Mirror

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import Hub

__all__ = ["mirror"]

_RECENT_EPOCHS = 500
"""How far back, in epochs of each competition, an outage is caught up with."""
_UPLOADS = 20
"""How many epochs are uploaded at once, so that the next epoch need not wait."""
_MAX_RECORD_BYTES = 675_000
"""Of the record in a step: 900 kB as base64. wandb advises against values of more than 1 MB."""


def mirror(decided: Decided, publication: Publication, subnet: Subnet, hub: Hub) -> Publication:
    """Log what was published to wandb, and upload the record to the hub, as the settings say.

    Returns the publication with a sentence on how each went; a past epoch and a mere look go nowhere.
    Neither wandb nor the hub makes it raise, only a record that cannot be written: EvaluatorFault.
    """
    plan, epoch = decided.plan, decided.epoch
    settings = plan.settings
    if withheld(plan):
        return publication
    if settings.wandb == "off":
        publication = amend(settings, epoch, mirror="off")
    else:
        log_epochs(plan, subnet.hotkey)
    if settings.publish_records is not None:
        told = upload_epochs(settings.publish_records, plan.records, hub)
        return amend(settings, epoch, upload=told)
    return epoch.read(Publication) or publication


def log_epochs(plan: Plan, hotkey: str) -> None:
    """Log every published epoch that is in no run yet, and keep in its record how that went."""
    waiting: dict[Path, Epoch] = {}
    runs: Mirror | None = None
    for epoch, publication in _published(plan.records):
        if not publication.run:
            try:
                runs = _runs(plan.settings, epoch.manifest.uids[hotkey], hotkey)
                path = runs.path_of(epoch.competition_id, epoch.sync_block) or runs.keep(_step(plan, epoch))
                waiting[path] = epoch
            except Exception as error:  # a record that was changed, for example
                amend(plan.settings, epoch, mirror=f"not mirrored: {type(error).__name__}: {error}")
    for path, logged in (runs.log(waiting) if runs else {}).items():
        amend(plan.settings, waiting[path], run=logged.run, mirror=logged.told)


def _runs(settings: Settings, uid: int, hotkey: str) -> Mirror:
    from sn37 import __version__

    project, entity = settings.wandb_project, settings.wandb_entity
    return Mirror(project, entity, uid, hotkey, __version__, settings.root / "wandb", settings.wandb)


def _step(plan: Plan, epoch: Epoch) -> dict[str, object]:
    """One epoch as it is logged: what leaderboards read, and the record itself."""
    manifest, past = epoch.manifest, Plan(plan.settings, epoch.manifest, newest=False)
    weights = weights_at(past, manifest.uids)
    shares = competition_weights_at(past, epoch.competition_id, manifest.uids)
    step = step_of(manifest, epoch.decision, epoch.results.values(), weights, shares)
    return {**step, RECORD_FIELD: b64encode(pack(epoch, _MAX_RECORD_BYTES)).decode()}


def upload_epochs(repo: str, records: Records, hub: Hub) -> str:
    """Upload the published epochs that the dataset does not have yet, a file each; how it went, in a sentence."""
    try:
        try:
            there = {file.path for file in hub.dataset_files(repo, hub.newest_commit(repo, "dataset", None))}
        except DataFault:  # no such dataset yet: the first file makes it
            there = set()
        epochs = {dataset_file(epoch.competition_id, epoch.sync_block): epoch for epoch, _ in _published(records)}
        missing = [name for name in epochs if name not in there]
        for name in missing[:_UPLOADS]:
            hub.publish_file(repo, name, pack(epochs[name]), repo_type="dataset")
        done = min(len(missing), _UPLOADS)
        return f"{done} epoch{'s' * (done != 1)} uploaded to {repo}, {len(missing) - done} waiting"
    except Exception as error:  # the hub may fail in any way; an epoch goes on
        return f"not uploaded to {repo}: {type(error).__name__}: {error}"


def _published(records: Records) -> list[tuple[Epoch, Publication]]:
    """The recent epochs whose weights were published, the oldest first."""
    recent = [epoch for id in records.competitions() for epoch in records.sealed(id)[-_RECENT_EPOCHS:]]
    recent.sort(key=lambda epoch: (epoch.sync_block, epoch.competition_id))
    return [(epoch, found) for epoch in recent if (found := epoch.read(Publication)) is not None]
