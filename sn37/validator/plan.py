"""The first step of an epoch: what runs at the sync block, and who takes part.

Reads the chain and the records; fetches no model and no sample. The same chain, settings and records
give the same plan in any process.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.clock import seed_of
from sn37.competition import Competition
from sn37.errors import ChainFault, ConfigError
from sn37.files import started_from, write_bytes
from sn37.html import table
from sn37.records.epochs import Epoch, Records
from sn37.records.manifest import Manifest, Pick
from sn37.schedule import Schedule, Share
from sn37.submission import file_digest
from sn37.validator import contenders
from sn37.validator.settings import Settings
from sn37.validator.stages import kept_fault

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import Hub

__all__ = ["Plan", "digest_of", "plan", "schedule_of"]


@dataclass(frozen=True)
class Plan:
    """One epoch to come, or one that was decided before."""

    settings: Settings
    """The validator's settings."""
    manifest: Manifest
    """The epoch as it was planned."""
    newest: bool
    """Whether its sync block was the chain's newest when it was planned: only then is anything published."""

    @property
    def competition(self) -> Competition:
        """The competition that runs."""
        return self.manifest.competition

    @property
    def sync_block(self) -> int:
        """The epoch's sync block."""
        return self.manifest.sync_block

    @property
    def picks(self) -> tuple[Pick, ...]:
        """What becomes of each submission."""
        return self.manifest.submissions

    @property
    def chosen(self) -> list[Pick]:
        """The submissions that are evaluated, in order."""
        return [pick for pick in self.picks if pick.evaluate]

    @property
    def records(self) -> Records:
        """The records of this validator."""
        return Records(self.settings.root / "records")

    @property
    def epoch(self) -> Epoch:
        """The epoch's folder as it is now: at work, or sealed."""
        return self.records.begin(self.competition.id, self.sync_block)

    def __repr__(self) -> str:
        counts = Counter(pick.why if pick.evaluate else "not evaluated" for pick in self.picks)
        who = ", ".join(f"{count} {why}" for why, count in counts.items()) or "no submission"
        seed = f"{self.manifest.seed % 2**64:016x}"
        return f"{self.competition.name} at sync block {self.sync_block}, seed {seed}...: {who}"

    def _repr_html_(self) -> str:
        rows = []
        for pick in self.picks:
            submission, model = pick.submission, pick.submission.model
            repo = model.repo if model else None
            rows.append((submission.uid, submission.hotkey[:8], repo, submission.block, pick.evaluate, pick.why))
        return f"<p>{escape(str(self))}</p>{table(('uid', 'hotkey', 'repo', 'block', 'evaluated', 'why'), rows)}"


def digest_of(task: str) -> str | None:
    """The digest of a file with own sources and methods; None for an installed package's entry point."""
    return file_digest(Path(task)) if task.endswith(".py") else None


def schedule_of(settings: Settings, hub: Hub, keep: Path | None = None) -> Schedule:
    """The public schedule with the validator's own funding in place of its split; its own tasks are loaded first.

    keep: a folder for competitions read from the hub, which are then asked for once: their owners cannot take
    them away from who funds them.
    """
    from sn37.competitions import funded_schedule, load_tasks, read_schedule

    def read_file(repo: str, commit: str, name: str, max_bytes: int) -> bytes:
        kept = None if keep is None else keep / f"{repo.replace('/', '--')}@{commit}" / name
        if kept is not None and kept.is_file():
            return kept.read_bytes()
        data = hub.read_file(repo, commit, name, max_bytes)
        if kept is not None:
            write_bytes(kept, data)
        return data

    load_tasks(settings.tasks)
    own = None if settings.schedule is None else read_schedule(settings.schedule)
    return funded_schedule(settings.funding, started_from(), read_file, own)


def plan(settings: Settings, subnet: Subnet, hub: Hub) -> Plan:
    """Plan the epoch of the newest sync block, or of `settings.sync_block`, and keep the plan in the epoch's folder.

    An epoch planned before is taken up as it was planned. Raises ChainFault, ConfigError, HubFault.
    """
    schedule = schedule_of(settings, hub, settings.root / "cache" / "competitions")
    head = subnet.head()
    sync_block = settings.clock.chosen(settings.sync_block, head)
    shares = schedule.at(sync_block)
    competition = _choose(settings, shares, sync_block)
    epoch = Records(settings.root / "records").begin(competition.id, sync_block)
    newest = sync_block == settings.clock.sync_block(head)
    with kept_fault(epoch, "plan"):
        known, block_hash = epoch.read(Manifest), _block_hash(subnet, sync_block)
        fresh = Manifest(
            competition=competition,
            competition_digest=competition.digest,
            shares={share.competition.id: share.share for share in shares},
            network=settings.network,
            netuid=settings.netuid,
            hub=settings.hub,
            own_tasks={name: digest_of(name) for name in settings.tasks},
            clock=settings.clock,
            sync_block=sync_block,
            block_hash=block_hash,
            # A node need not keep the state of a block that was planned before.
            as_of=known.as_of if known and known.block_hash == block_hash else subnet.timestamp(sync_block),
            figures=settings.figures,
            limits=settings.limits,
            uids={},
            submissions=(),
        )
        if known is not None and _holds(epoch, known, fresh):
            return Plan(settings, known, newest)
        manifest = _filled(fresh, settings, schedule, subnet)
        epoch.write(manifest)
        return Plan(settings, manifest, newest)


def _block_hash(subnet: Subnet, block: int) -> str:
    found = subnet.block_hash(block)
    try:
        seed_of(found)
    except ValueError as error:
        raise ChainFault(f"{subnet.network}: block {block}: {error}") from error
    return found


def _holds(epoch: Epoch, known: Manifest, fresh: Manifest) -> bool:
    """Whether the epoch stays as it was planned before: always once decided, else for equal settings.

    Raises ConfigError where the record is of another chain.
    """
    if epoch.sealed and known.block_hash != fresh.block_hash:
        raise ConfigError(
            f"the records in {epoch.folder.parent.parent} are of another chain, where block {fresh.sync_block} had "
            "another hash; choose another root"
        )
    settled = ("block_hash", "competition_digest", "shares", "netuid", "limits", "figures")
    return epoch.sealed or all(getattr(known, name) == getattr(fresh, name) for name in settled)


def _filled(fresh: Manifest, settings: Settings, schedule: Schedule, subnet: Subnet) -> Manifest:
    """The plan with what the chain and the records say of the submissions."""
    competition, sync_block = fresh.competition, fresh.sync_block
    able, unable = contenders.sort_out(subnet.submissions(sync_block), competition, schedule, sync_block)
    records = Records(settings.root / "records")
    picks = contenders.pick(
        able,
        records.history(competition.id, sync_block, settings.limits.remembered),
        _weighted_by_others(settings, subnet, sync_block),
        competition.epsilon,
        sync_block,
        most=settings.limits.evaluated(len(fresh.shares)),
        limits=settings.limits,
    )
    uids = {neuron.hotkey: neuron.uid for neuron in subnet.metagraph(block=sync_block).neurons}
    return replace(fresh, submissions=(*picks, *unable), uids=uids)


def _choose(settings: Settings, shares: tuple[Share, ...], sync_block: int) -> Competition:
    running = [share.competition for share in shares]
    if not running:
        raise ConfigError(f"no competition runs at block {sync_block}; fund one of your own")
    if settings.competition is None:
        return running[settings.clock.index(sync_block) % len(running)]
    for competition in running:
        if settings.competition in (competition.id, competition.name, str(competition.id)):
            return competition
    names = ", ".join(f"{competition.id} {competition.name}" for competition in running)
    raise ConfigError(f"competition {settings.competition!r} does not run at block {sync_block}; running are {names}")


def _weighted_by_others(settings: Settings, subnet: Subnet, sync_block: int) -> frozenset[str]:
    own = {subnet.hotkey} if settings.publish else set()
    large = subnet.trusted(settings.netuid, settings.figures.large_stake, sync_block) - own
    weights = subnet.validator_weights(sync_block)
    return frozenset(
        hotkey
        for validator in large
        for hotkey, share in weights.get(validator, {}).items()
        if share >= settings.figures.top_share
    )
