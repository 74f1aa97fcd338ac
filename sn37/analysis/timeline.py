"""The way of a miner's submissions through the epochs of a competition: committed, picked up, waiting, evaluated.

A fold over records. Times of blocks are reckoned with 12 s a block from the nearest epoch's sync block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby

from sn37.analysis.verdict import commitment_of, pick_of, score_of
from sn37.clock import SECONDS_PER_BLOCK
from sn37.records.epochs import Epoch
from sn37.records.faults import StageFault, Waits, printable
from sn37.records.manifest import Manifest
from sn37.submission import Commitment

__all__ = ["Event", "timeline"]


@dataclass(frozen=True)
class Event:
    """Something that happened to a submission."""

    block: int
    """The block at which it happened."""
    time: datetime
    """When that was (UTC): 12 s a block, counted from the epoch's sync block."""
    what: str
    """What happened."""

    def __str__(self) -> str:
        return printable(f"{self.block}  {self.time:%Y-%m-%d %H:%M}  {self.what}")


def timeline(epochs: Sequence[Epoch], hotkey: str, undecided: Iterable[Epoch] = ()) -> tuple[Event, ...]:
    """What happened to a hotkey's submissions, oldest first; the same outcome of epochs in a row is told once.

    epochs: decided ones of one competition, oldest first; undecided: those at work, of which later ones are told.
    """
    events = sorted(_events(epochs, hotkey), key=lambda event: event.block)
    for epoch in undecided:
        if epoch.sync_block > epochs[-1].sync_block and epoch.read(Manifest) and pick_of(epoch, hotkey):
            stopped, waits = epoch.read(StageFault), epoch.read(Waits) or Waits()
            waited = f", waited for this submission {waits.counts[hotkey]} times" if hotkey in waits.counts else ""
            why = f": {stopped.stage}: {stopped.reason} ({stopped.owner} fault)" if stopped else ""
            events.append(_event(epoch, epoch.sync_block, f"not decided yet{waited}{why}"))
    together = [list(group) for _, group in groupby(events, key=lambda event: event.what)]
    times = [f" ({len(group)} times)" if len(group) > 1 else "" for group in together]
    return tuple(replace(group[0], what=group[0].what + more) for group, more in zip(together, times, strict=True))


def _events(epochs: Sequence[Epoch], hotkey: str) -> Iterator[Event]:
    last: Commitment | None = None
    for epoch in epochs:
        now = commitment_of(epoch, hotkey)
        if now is None:
            continue
        if last is None or (now.block, now.text) != (last.block, last.text):
            again = "" if last is None else " anew" if now.text != last.text else " again, the same text"
            delay, clock = epoch.manifest.competition.constraints.delay_blocks, epoch.manifest.clock
            first = clock.first_epoch(now.block, delay)
            yield _event(epoch, now.block, f"committed{again}: {now.text}")
            yield _event(epoch, first, f"picked up: the first sync block after block {now.block} + delay {delay}")
            last = now
        yield _event(epoch, epoch.sync_block, _outcome(epoch, hotkey))


def _event(epoch: Epoch, block: int, what: str) -> Event:
    """Something at a block; its time is counted from the epoch's."""
    apart = timedelta(seconds=(block - epoch.sync_block) * SECONDS_PER_BLOCK)
    return Event(block, epoch.manifest.as_of + apart, what)


def _outcome(epoch: Epoch, hotkey: str) -> str:
    """What became of a submission in an epoch, in a few words."""
    decision, pick, score = epoch.decision, pick_of(epoch, hotkey), score_of(epoch.decision, hotkey)
    why = f" ({pick.why})" if pick is not None and pick.evaluate else ""
    if hotkey in decision.set_aside:
        return f"set aside: {decision.set_aside[hotkey]}"
    if score is None:
        return f"not evaluated: {pick.why}" if pick else "not evaluated"
    if score.score is None or decision.best is None:
        return f"evaluated{why}: failed: {score.fault.reason if score.fault else ''}"
    won = "won" if decision.winner == hotkey else f"uid {decision.best.uid} won with {decision.best.score:.6g}"
    return f"evaluated{why}: {score.score:.6g}, {won}"
