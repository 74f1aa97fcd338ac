"""When an epoch happens and what it draws from: sync blocks, seeds, named generators.

Pure: knows nothing of the chain that numbers and hashes the blocks. Protocol, section 3.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass

from sn37.errors import ConfigError
from sn37.values import Checked, Rule

__all__ = [
    "BLOCKS_PER_DAY",
    "SECONDS_PER_BLOCK",
    "Clock",
    "duration",
    "generator",
    "picked_up",
    "seed_of",
    "training_seed",
]

SECONDS_PER_BLOCK = 12
"""Length of one block in seconds (protocol, head)."""

BLOCKS_PER_DAY = 86_400 // SECONDS_PER_BLOCK

_BLOCK_HASH = re.compile(r"0x[0-9a-f]{64}")


@dataclass(frozen=True)
class Clock(Checked):
    """The subnet's beat; the defaults are the live subnet's (protocol, section 1)."""

    genesis: int = 3_138_611
    """The subnet's first block."""
    cadence: int = 360
    """Blocks between two sync blocks."""

    RULES = (
        Rule("genesis", lambda block: block >= 0, "a block number, 0 or more"),
        Rule("cadence", lambda blocks: blocks >= 1, "1 block or more"),
    )

    def sync_block(self, block: int) -> int:
        """The newest sync block at or before `block`. Raises ConfigError for one before genesis."""
        if block < self.genesis:
            raise ConfigError(f"block {block} lies before the subnet's genesis, {self.genesis}")
        return self.genesis + (block - self.genesis) // self.cadence * self.cadence

    def next_sync_block(self, block: int) -> int:
        """The first sync block strictly after `block`."""
        return self.sync_block(block) + self.cadence

    def first_epoch(self, committed: int, delay_blocks: int) -> int:
        """The first sync block whose epoch a submission committed at block `committed` takes part in (`picked_up`)."""
        waits = max(0, committed + delay_blocks - self.genesis)
        return self.genesis + -(-waits // self.cadence) * self.cadence

    def chosen(self, wanted: int | None, head: int) -> int:
        """The sync block that is wanted, None for the newest one. head: the chain's newest block.

        Raises ConfigError where it is none, or not reached yet.
        """
        if head < self.genesis:
            raise ConfigError(
                f"the chain is at block {head}; genesis is {self.genesis}, expected a block it has reached"
            )
        newest = self.sync_block(head)
        if wanted is None:
            return newest
        if not self.genesis <= wanted <= head or self.sync_block(wanted) != wanted:
            raise ConfigError(
                f"sync_block is {wanted}; expected {newest}, or {self.cadence} x n blocks before it, "
                f"from {self.genesis} on"
            )
        return wanted

    def index(self, sync_block: int) -> int:
        """How many sync blocks lie between genesis and `sync_block` (0 at genesis)."""
        return (self.sync_block(sync_block) - self.genesis) // self.cadence


def duration(blocks: int) -> str:
    """How long so many blocks take, for people.

    >>> duration(50), duration(900), duration(50_400)
    ('about 10 min', 'about 3.0 h', 'about 7.0 days')
    """
    minutes = blocks * SECONDS_PER_BLOCK / 60
    if minutes < 120:
        return f"about {minutes:.0f} min"
    return f"about {minutes / 60:.1f} h" if minutes < 2_880 else f"about {minutes / 1_440:.1f} days"


def seed_of(block_hash: str) -> int:
    """The seed of an epoch: SHA-256 of the sync block's hash as its lower-case `0x...` text.

    Raises ValueError where there is no hash: a validator waits, it never invents a seed.
    """
    if not _BLOCK_HASH.fullmatch(block_hash):
        raise ValueError(f"{block_hash!r} is no block hash; expected 0x and 64 lower-case hexadecimal digits")
    return int(hashlib.sha256(block_hash.encode()).hexdigest(), 16)


def generator(seed: int, name: str) -> random.Random:
    """The generator of the task `name`: the same in any process, independent of all other tasks."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
    return random.Random(int(digest, 16))


def training_seed(name: str) -> int:
    """A seed called `name` for samples to learn from, which no epoch ever has.

    It is 2**256 or more, where `seed_of` gives 256 bits: as a generator begins with SHA-256 of the seed's digits and
    the task's name, no validator's text is ever this one.

    >>> training_seed("held out") >= 2**256 > seed_of("0x" + "f" * 64)
    True
    """
    return (1 << 256) + int(hashlib.sha256(name.encode()).hexdigest(), 16)


def picked_up(committed: int, delay_blocks: int, sync_block: int) -> bool:
    """Whether a submission committed at block `committed` takes part in the epoch of `sync_block`."""
    return committed + delay_blocks <= sync_block
