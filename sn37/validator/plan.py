"""The first step of an epoch: what runs at the sync block, and who takes part.

Reads the chain and the records; fetches no model and no sample. The same chain and the same records
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
from sn37.errors import ConfigError
from sn37.schedule import Schedule, Share
from sn37.validator import contenders
from sn37.validator.contenders import Pick
from sn37.validator.records import Epoch, Records
from sn37.validator.settings import Settings

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import Hub

__all__ = ["Plan", "plan", "schedule_of"]


@dataclass(frozen=True)
class Plan:
    """One epoch to come. shares: the split at the sync block; picks: what becomes of each submission;
    uids: registered hotkeys and their uids at the sync block; epoch: its folder."""

    settings: Settings
    competition: Competition
    shares: tuple[Share, ...]
    sync_block: int
    block_hash: str
    as_of: datetime
    picks: tuple[Pick, ...]
    uids: Mapping[str, int]
    epoch: Epoch

    @property
    def seed(self) -> int:
        """The seed of all sampling."""
        return seed_of(self.block_hash)

    @property
    def records(self) -> Records:
        """The records of this validator."""
        return Records(self.settings.root / "records")

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
            "netuid": self.settings.netuid,
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


def schedule_of(settings: Settings, hub: Hub) -> Schedule:
    """The public schedule with the validator's own funding in place of its split; its own tasks are loaded first."""
    from sn37.competitions import funded_schedule, load_tasks, read_schedule

    load_tasks(settings.tasks)
    own = None if settings.schedule is None else read_schedule(settings.schedule)
    return funded_schedule(settings.funding, Path.cwd(), hub.read_file, own)


def plan(settings: Settings, subnet: Subnet, hub: Hub) -> Plan:
    """Plan the epoch of the newest sync block, or of `settings.sync_block`. Raises ChainFault, ConfigError."""
    head = subnet.head()
    clock = settings.clock
    sync_block = clock.sync_block(head) if settings.sync_block is None else settings.sync_block
    if sync_block > head or clock.sync_block(sync_block) != sync_block:
        newest = clock.sync_block(head)
        raise ConfigError(f"sync_block is {sync_block}; expected {newest} or {clock.cadence} x n blocks before it")
    schedule = schedule_of(settings, hub)
    shares = schedule.at(sync_block)
    competition = _choose(settings, shares, sync_block)
    metagraph = subnet.metagraph(block=sync_block)
    records = Records(settings.root / "records")
    able, unable = contenders.sort_out(subnet.submissions(sync_block), competition, schedule, sync_block)
    picks = contenders.pick(
        able,
        contenders.history(records.sealed(competition.id, sync_block), settings.limits.remembered),
        _kept(records, competition, settings, sync_block),
        _weighted_by_others(settings, subnet, sync_block),
        competition.epsilon,
        sync_block,
        most=settings.limits.evaluated(len(shares)),
        limits=settings.limits,
    )
    return Plan(
        settings=replace(settings, sync_block=sync_block),
        competition=competition,
        shares=shares,
        sync_block=sync_block,
        block_hash=subnet.block_hash(sync_block),
        as_of=subnet.timestamp(sync_block),
        picks=(*picks, *unable),
        uids={neuron.hotkey: neuron.uid for neuron in metagraph.neurons},
        epoch=records.epoch(competition.id, sync_block),
    )


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


def _kept(records: Records, competition: Competition, settings: Settings, sync_block: int) -> list[contenders.Key]:
    decided = [e for e in records.sealed(competition.id, sync_block) if e.decision["winner"] is not None]
    average = records.average(competition.id, settings.figures.alpha, sync_block)
    return contenders.kept(decided[-1] if decided else None, average, settings.limits.kept)


def _weighted_by_others(settings: Settings, subnet: Subnet, sync_block: int) -> frozenset[str]:
    large = subnet.trusted(settings.netuid, settings.figures.large_stake, sync_block) - {subnet.hotkey}
    weights = subnet.validator_weights(sync_block)
    return frozenset(
        hotkey
        for validator in large
        for hotkey, share in weights.get(validator, {}).items()
        if share >= settings.figures.top_share
    )
