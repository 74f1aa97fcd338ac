"""The first step of an epoch: what runs at the sync block, and who takes part.

Reads the chain and the records; fetches no model and no sample. The same chain, settings and records
give the same plan in any process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sn37.clock import seed_of
from sn37.competition import Competition
from sn37.errors import ChainFault, ConfigError
from sn37.files import started_from, write_bytes
from sn37.records.epochs import Epoch, Records
from sn37.records.recall import Pick, competition_of, picks_of
from sn37.schedule import Schedule, Share
from sn37.submission import file_digest
from sn37.validator import contenders
from sn37.validator.settings import Settings
from sn37.validator.stages import kept_fault

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import Hub

__all__ = ["Plan", "plan", "schedule_of"]


@dataclass(frozen=True)
class Plan:
    """One epoch to come. shares: the split at the sync block; picks: what becomes of each submission;
    uids: registered hotkeys and their uids at the sync block."""

    settings: Settings
    competition: Competition
    shares: tuple[Share, ...]
    sync_block: int
    block_hash: str
    as_of: datetime
    picks: tuple[Pick, ...]
    uids: Mapping[str, int]

    @property
    def seed(self) -> int:
        """The seed of all sampling."""
        return seed_of(self.block_hash)

    @property
    def records(self) -> Records:
        """The records of this validator."""
        return Records(self.settings.root / "records")

    @property
    def epoch(self) -> Epoch:
        """The epoch's folder as it is now: at work, or sealed."""
        return self.records.epoch(self.competition.id, self.sync_block)

    @property
    def chosen(self) -> list[Pick]:
        """The submissions that are evaluated, in order."""
        return [pick for pick in self.picks if pick.evaluate]

    def manifest(self) -> dict[str, Any]:
        """The plan as a record keeps it."""
        return {
            "competition": self.competition.to_dict(),
            "competition_digest": self.competition.digest,
            "shares": {str(s.competition.id): s.share for s in self.shares},
            "network": self.settings.network,
            "netuid": self.settings.netuid,
            "hub": self.settings.hub,
            "own_tasks": {name: _digest_of(name) for name in self.settings.tasks},
            "clock": asdict(self.settings.clock),
            "sync_block": self.sync_block,
            "block_hash": self.block_hash,
            "seed": str(self.seed),
            "as_of": self.as_of.isoformat(),
            "figures": asdict(self.settings.figures),
            "limits": asdict(self.settings.limits),
            "uids": dict(self.uids),
            "submissions": [
                {
                    "hotkey": pick.submission.hotkey,
                    "uid": pick.submission.uid,
                    "block": pick.submission.block,
                    "text": pick.submission.text,
                    "evaluate": pick.evaluate,
                    "why": pick.why,
                }
                for pick in self.picks
            ],
        }

    def __str__(self) -> str:
        counts = Counter(pick.why if pick.evaluate else "not evaluated" for pick in self.picks)
        who = ", ".join(f"{count} {why}" for why, count in counts.items()) or "no submission"
        return f"{self.competition.name} at sync block {self.sync_block}, seed {self.seed % 2**64:016x}...: {who}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{p.submission.uid}</td><td><code>{escape(p.submission.hotkey[:8])}</code></td>"
            f"<td>{escape(p.submission.model.repo if p.submission.model else '-')}</td><td>{p.submission.block}</td>"
            f"<td>{'yes' if p.evaluate else 'no'}</td><td>{escape(p.why)}</td></tr>"
            for p in self.picks
        )
        head = "".join(f"<th>{h}</th>" for h in ("uid", "hotkey", "repo", "block", "evaluated", "why"))
        return f"<p>{escape(str(self))}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _digest_of(task: str) -> str | None:
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
    sync_block = _sync_block(settings, subnet.head())
    shares = schedule.at(sync_block)
    competition = _choose(settings, shares, sync_block)
    epoch = Records(settings.root / "records").epoch(competition.id, sync_block)
    with kept_fault(epoch, "plan"):
        fresh = Plan(
            settings=replace(settings, sync_block=sync_block),
            competition=competition,
            shares=shares,
            sync_block=sync_block,
            block_hash=_block_hash(subnet, sync_block),
            as_of=subnet.timestamp(sync_block),
            picks=(),
            uids={},
        )
        planned = _recalled(fresh)
        if planned is None:
            planned = _filled(fresh, schedule, subnet)
            epoch.write("manifest.json", planned.manifest())
        return planned


def _sync_block(settings: Settings, head: int) -> int:
    clock, wanted = settings.clock, settings.sync_block
    if head < clock.genesis:
        raise ConfigError(f"the chain is at block {head}; genesis is {clock.genesis}, expected a block it has reached")
    newest = clock.sync_block(head)
    if wanted is None:
        return newest
    if not clock.genesis <= wanted <= head or clock.sync_block(wanted) != wanted:
        raise ConfigError(
            f"sync_block is {wanted}; expected {newest}, or {clock.cadence} x n blocks before it, "
            f"from {clock.genesis} on"
        )
    return wanted


def _block_hash(subnet: Subnet, block: int) -> str:
    found = subnet.block_hash(block)
    try:
        seed_of(found)
    except ValueError as error:
        raise ChainFault(f"{subnet.network}: block {block}: {error}") from error
    return found


def _recalled(fresh: Plan) -> Plan | None:
    """The plan as it was made before, where it still holds: always once decided, else for equal settings."""
    manifest = fresh.epoch.read("manifest.json")
    if manifest is None:
        return None
    if fresh.epoch.sealed and manifest["block_hash"] != fresh.block_hash:
        raise ConfigError(
            f"the records in {fresh.settings.root} are of another chain, where block {fresh.sync_block} had another "
            "hash; choose another root"
        )
    wanted = fresh.manifest()
    same = ("block_hash", "competition_digest", "netuid", "limits", "figures")
    holds = all(manifest.get(name) == wanted[name] for name in same)
    if not (fresh.epoch.sealed or holds):
        return None
    return replace(fresh, competition=competition_of(manifest), picks=picks_of(manifest), uids=dict(manifest["uids"]))


def _filled(fresh: Plan, schedule: Schedule, subnet: Subnet) -> Plan:
    """The plan with what the chain and the records say of the submissions."""
    settings, competition, sync_block = fresh.settings, fresh.competition, fresh.sync_block
    able, unable = contenders.sort_out(subnet.submissions(sync_block), competition, schedule, sync_block)
    picks = contenders.pick(
        able,
        fresh.records.history(competition.id, sync_block, settings.limits.remembered),
        _weighted_by_others(settings, subnet, sync_block),
        competition.epsilon,
        sync_block,
        most=settings.limits.evaluated(len(fresh.shares)),
        limits=settings.limits,
    )
    uids = {neuron.hotkey: neuron.uid for neuron in subnet.metagraph(block=sync_block).neurons}
    return replace(fresh, picks=(*picks, *unable), uids=uids)


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
