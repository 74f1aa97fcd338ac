"""The two loops of a validator that never stops, each in a process of its own: epochs, and weights.

    run_epochs      at each new sync block an epoch of every funded competition
    keep_weights    sets the weights of the newest decided epoch, however long an evaluation takes

A sync block that was missed is skipped, never made up for; an epoch whose run was killed between its decision and its
end is taken up again. A fault is told and tried again with a growing pause; only
a mistake of the user's, before anything has succeeded, ends a loop. What happened is in the records: both loops go on
wherever a kill has left them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.clock import duration
from sn37.competition import Competition
from sn37.errors import ConfigError, EvaluatorFault, Sn37Error
from sn37.records.decision import Publication
from sn37.records.epochs import Epoch, Records
from sn37.validator.decide import Decided, weights_at
from sn37.validator.journal import Journal
from sn37.validator.keeping import prune
from sn37.validator.plan import Plan, schedule_of
from sn37.validator.publish import publish
from sn37.validator.settings import Settings

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import Hub

__all__ = ["keep_weights", "run_epochs"]

CHECK_BLOCKS = 25
"""Blocks after which the weights on the chain are compared with ours again (5 minutes)."""

_LONGEST_PAUSE_S = 600.0

RunEpoch = Callable[[Competition, int], Mapping[str, object]]
"""Runs the epoch of a competition at a sync block; how it ended."""


@dataclass
class _Loop:
    """Turns of a loop, with a pause after each that grows with the faults in a row."""

    journal: Journal
    poll_s: float
    sleep: Callable[[float], None]
    turns: int | None
    """How many turns; None for ever."""
    failures: int = 0
    succeeded: bool = False

    def run(self, turn: Callable[[], bool]) -> None:
        """turn: one look at the chain; says whether another follows at once."""
        while self.turns is None or self.turns > 0:
            self.turns = None if self.turns is None else self.turns - 1
            before = self.failures
            try:
                again = turn()
                if self.failures == before:
                    self.failures, self.succeeded = 0, True
            except Sn37Error as error:
                if isinstance(error, ConfigError) and not self.succeeded:
                    raise
                self.fault(error)
                again = False
            if not again:
                # The exponent is bounded too: a float knows no power of 2 above 1024.
                self.sleep(min(self.poll_s * 2 ** min(self.failures, 20), _LONGEST_PAUSE_S))

    def fault(self, error: Sn37Error, block: int | None = None) -> None:
        """Tell a fault, and who owns it."""
        self.failures += 1
        kind = "error" if isinstance(error, ConfigError) else f"{error.owner} fault"
        self.journal.event(f"{kind}: {error}; tried again", block=block, more={"owner": error.owner})


@dataclass
class _Epochs:
    """What the loop of epochs keeps in mind of the newest sync block."""

    sync_block: int = -1
    funded: tuple[Competition, ...] = ()
    cut_off: set[int] = field(default_factory=set)
    """Competitions decided at this sync block by a run that was killed before it was through, by id."""
    faults: Counter[int] = field(default_factory=Counter)
    """Faults of each competition at this sync block, by id."""

    def turn_to(self, sync_block: int, funded: tuple[Competition, ...]) -> None:
        """A new sync block, of which nothing is known yet."""
        self.sync_block, self.funded = sync_block, funded
        self.faults.clear()


def run_epochs(
    settings: Settings,
    subnet: Subnet,
    hub: Hub,
    run: RunEpoch,
    journal: Journal,
    *,
    executed: Sequence[Path] = (),
    poll_s: float = 12.0,
    sleep: Callable[[float], None] = time.sleep,
    turns: int | None = None,
) -> None:
    """At each new sync block an epoch of every funded competition, one after the other, until interrupted.

    The competition that has waited longest for a decision comes first, one with a fault after the others. After each,
    however it ended, what is beyond the limits of `settings.keep` is pruned. executed: as for `prune`; turns: how often
    to look at the chain, None for ever. Raises ConfigError where the first look finds a mistake of the user's.
    """
    records, seen = Records(settings.root / "records"), _Epochs()
    loop = _Loop(journal, poll_s, sleep, turns)

    def turn() -> bool:
        block = subnet.head()
        # A node that lags behind the last one brings no old sync block back.
        sync_block = max(settings.clock.sync_block(block), seen.sync_block)
        if sync_block != seen.sync_block:
            for late in _undecided(records, seen):
                journal.event(f"{late.name} at {seen.sync_block:,} is skipped: undecided", block=block)
            shares = schedule_of(settings, hub, settings.root / "cache" / "competitions").at(sync_block)
            seen.turn_to(sync_block, tuple(share.competition for share in shares))
            seen.cut_off = {one.id for one in seen.funded if settings.publish and _cut_off(records, one, sync_block)}
        due = [*_undecided(records, seen), *(one for one in seen.funded if one.id in seen.cut_off)]
        if not due:
            following = sync_block + settings.clock.cadence
            what = f"waiting for the sync block {following:,}, in {duration(following - block)}"
            journal.state(what, block=block, more={"next_block": following})
            return False
        competition = min(due, key=lambda one: (seen.faults[one.id], _last_decided(records, one.id), one.id))
        seen.cut_off.discard(competition.id)
        what = f"epoch of {competition.name} at sync block {sync_block:,}"
        journal.event(f"{what} begins", block=block)
        began = time.monotonic()
        try:
            result = run(competition, sync_block)
        except Sn37Error as error:
            if isinstance(error, ConfigError) and not loop.succeeded:
                raise
            seen.faults[competition.id] += 1
            loop.fault(error, sync_block)
            # Another competition need not wait for this one's fault to pass.
            return any(not seen.faults[one.id] for one in due)
        finally:
            _prune(settings, executed, journal)
        told = {name: result.get(name) for name in ("winner", "weights", "chain", "mirror")}
        summary = f"{result.get('summary', 'done')}; chain: {result.get('chain', 'not asked')}"
        journal.event(summary, block=sync_block, seconds=time.monotonic() - began, more=told)
        return True

    loop.run(turn)


def _prune(settings: Settings, executed: Sequence[Path], journal: Journal) -> None:
    """Keep house, in a line where something went; no epoch waits for a disk that refuses."""
    try:
        told = prune(settings, executed)
    except EvaluatorFault as error:
        told = f"not pruned: {error}"
    if told:
        journal.event(told)


def _undecided(records: Records, seen: _Epochs) -> list[Competition]:
    """The funded competitions that have no decided epoch at the sync block yet."""
    return [one for one in seen.funded if not (records.root / str(one.id) / str(seen.sync_block)).is_dir()]


def _cut_off(records: Records, competition: Competition, sync_block: int) -> bool:
    """Whether the epoch is decided, and its run was killed before it was published and mirrored."""
    epoch = Epoch(records.root / str(competition.id) / str(sync_block))
    if not epoch.folder.is_dir():
        return False
    published = epoch.read(Publication)
    return published is None or not published.mirror


def _last_decided(records: Records, competition_id: int) -> int:
    """The sync block of a competition's last decision; 0 where there is none."""
    decided = records.sealed(competition_id)
    return decided[-1].sync_block if decided else 0


def keep_weights(
    settings: Settings,
    subnet: Subnet,
    journal: Journal,
    *,
    poll_s: float = 12.0,
    sleep: Callable[[float], None] = time.sleep,
    turns: int | None = None,
) -> None:
    """Keep the weights of the newest decided epoch on the chain until interrupted.

    They are set when an epoch is decided, once an hour, whenever the chain shows others, and at the block that the
    chain has named where it took none yet. turns: as in `run_epochs`.
    """
    records, done, again_at = Records(settings.root / "records"), None, 0

    def turn() -> bool:
        nonlocal done, again_at
        epoch, block = records.newest(), subnet.head()
        if epoch is None:
            journal.state("waiting for the first decided epoch", block=block)
            return False
        if epoch.folder == done and block < again_at:
            return False
        before = epoch.read(Publication)
        plan = Plan(settings, epoch.manifest, newest=True)
        made = publish(Decided(plan, epoch, weights_at(plan, plan.manifest.uids)), subnet)
        done, again_at = epoch.folder, made.possible_from or block + CHECK_BLOCKS
        told: dict[str, object] = {
            "set_at": made.block,
            "possible_from": made.possible_from,
            "weights": dict(made.weights),
        }
        what = f"weights of {epoch.sync_block:,}: {made.chain}"
        # That they stand as they were set is news for the status alone.
        same = before is not None and (made.weights, made.block) == (before.weights, before.block)
        if same and before is not None and made.chain.startswith(("unchanged", before.chain)):
            journal.state(what, block=block, more=told)
        else:
            journal.event(what, block=block, more=told)
        return False

    _Loop(journal, poll_s, sleep, turns).run(turn)
