"""How the embedded chain's blocks pass: on command or by the wall clock, with the consensus steps due in them.

Knows when a block is sealed and which calls it takes; what a call does is `calls`' matter.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from sn37.clock import SECONDS_PER_BLOCK
from sn37.devnet.chain import calls
from sn37.devnet.chain.extrinsics import Extrinsic
from sn37.devnet.chain.state import Rules, consensus_step, next_step, rules_of
from sn37.devnet.chain.store import Store
from sn37.errors import ConfigError

__all__ = ["Blocks", "Pace"]


@dataclass(frozen=True)
class Pace:
    """How blocks pass by themselves."""

    block_time_s: float
    """Wall-clock seconds from block to block."""
    block: int
    """The block from which they do."""
    since: float
    """When that block was the head, in seconds of the wall clock."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.block_time_s) and self.block_time_s > 0):
            raise ConfigError(f"block_time_s is {self.block_time_s}; expected seconds above 0, or None")

    def head(self, now: float) -> int:
        """The head at that moment of the wall clock."""
        return self.block + int((now - self.since) // self.block_time_s)


class Blocks:
    """The chain as a row of blocks. wall_clock: seconds, as `time.time` tells them."""

    def __init__(self, store: Store, wall_clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self.wall_clock = wall_clock

    def head(self) -> int:
        """The newest block, after catching up with the wall clock where blocks pass by themselves."""
        due = self._due()
        head = self.store.head()
        if due <= head:
            return head
        with self._changing() as head:
            return head

    def advance(self, blocks: int = 1) -> int:
        """Let so many blocks pass now, with every consensus step due in them. Returns the new head."""
        if blocks < 0:
            raise ValueError(f"cannot advance {blocks} blocks; expected 0 or more")
        with self.store.writing():
            pace = self._pace()
            if pace:
                self._set_pace(replace(pace, block=pace.block + blocks))
            self._seal(self._due() if pace else self.store.head() + blocks)
            return self.store.head()

    def advance_to(self, block: int) -> int:
        """Let blocks pass until the head is `block`; nothing when it is already past it."""
        return self.advance(max(0, block - self.head()))

    def set_block_time(self, block_time_s: float | None) -> None:
        """From now on a block passes in so many seconds of the wall clock; None: on command only."""
        with self._changing() as head:
            self._set_pace(None if block_time_s is None else Pace(block_time_s, head, self.wall_clock()))

    @property
    def block_time_s(self) -> float | None:
        """Wall-clock seconds from block to block, or None when blocks pass on command."""
        pace = self._pace()
        return pace.block_time_s if pace else None

    def block_hash(self, block: int | None = None) -> str:
        """The hash of a block (of the head, when None). Raises ValueError where there is no such block."""
        number = self.head() if block is None else block
        found = self.store.hash_of(number)
        if found is None:
            raise ValueError(f"there is no block {number}; the head is {self.head()}")
        return found

    def timestamp(self, block: int) -> datetime:
        """The time of a block, in UTC."""
        origin = self.store.origin
        return datetime.fromtimestamp(origin.started_at + (block - origin.start_block) * SECONDS_PER_BLOCK, UTC)

    def now(self) -> datetime:
        """The time of the head, in UTC: the chain's clock, not the wall's."""
        return self.timestamp(self.head())

    def next_step(self, netuid: int) -> int:
        """The next block with a consensus step of that subnet."""
        return next_step(netuid, self._rules(netuid).tempo, self.head())

    def _due(self) -> int:
        pace = self._pace()
        return pace.head(self.wall_clock()) if pace else 0

    def _pace(self) -> Pace | None:
        text = self.store.meta("pace")
        return Pace(**json.loads(text)) if text else None

    def _set_pace(self, pace: Pace | None) -> None:
        self.store.insert("meta", name="pace", value=json.dumps(asdict(pace)) if pace else "")

    def _seal(self, last: int) -> None:
        head = self.store.head()
        if last <= head:
            return
        self.store.seal(last)
        due: list[tuple[int, int]] = []
        for netuid in self.store.netuids():
            tempo = self._rules(netuid).tempo
            due.extend((block, netuid) for block in range(next_step(netuid, tempo, head), last + 1, tempo + 1))
        for block, netuid in sorted(due):
            consensus_step(self.store, netuid, self._rules(netuid), block)

    def include(self, extrinsic: Extrinsic) -> tuple[int, int]:
        """Take a signed call into the next block. Returns (block, position). Raises `Refused`.

        The block is sealed at once, or by the wall clock where blocks pass by themselves.
        """
        with self._changing() as head:
            block = head + 1
            position = calls.accept(self.store, extrinsic, block)
            if not self._pace():
                self._seal(block)
            return block, position

    @contextmanager
    def _changing(self) -> Iterator[int]:
        """A write transaction after catching up with the wall clock; gives the head."""
        with self.store.writing():
            self._seal(self._due())
            yield self.store.head()

    def _rules(self, netuid: int) -> Rules:
        rules = rules_of(self.store, netuid)
        if rules is None:
            raise ConfigError(f"there is no subnet {netuid} on this chain")
        return rules
