"""The embedded chain's memory: one SQLite file of blocks and versioned rows.

Every row carries the block it began to hold at, so the state at any block can be read again. Several
processes and threads share the file: each thread has its own connection, writes are `BEGIN IMMEDIATE`
transactions, a process that is killed in one leaves nothing of it. Knows nothing of what the rows
mean, nor of bittensor. It does not protect against a person who edits the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from sn37.errors import ChainFault, ConfigError

__all__ = ["Origin", "Store", "Value", "next_hash"]

Value = int | float | str | bytes | None
"""What a column holds."""

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (number INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE);
CREATE TABLE subnets (netuid INTEGER PRIMARY KEY, name TEXT NOT NULL, rules TEXT NOT NULL);
CREATE TABLE neurons (
    netuid INTEGER, uid INTEGER, block INTEGER, hotkey TEXT NOT NULL, coldkey TEXT NOT NULL,
    stake INTEGER NOT NULL, permit INTEGER NOT NULL, registered INTEGER NOT NULL, last_update INTEGER NOT NULL,
    consensus INTEGER NOT NULL, incentive INTEGER NOT NULL,
    validator_trust INTEGER NOT NULL, dividends INTEGER NOT NULL, PRIMARY KEY (netuid, uid, block)
) WITHOUT ROWID;
CREATE TABLE commitments (
    netuid INTEGER, hotkey TEXT, block INTEGER, fields TEXT NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (netuid, hotkey, block)
) WITHOUT ROWID;
CREATE TABLE weights (netuid INTEGER, uid INTEGER, block INTEGER, row TEXT NOT NULL, PRIMARY KEY (netuid, uid, block))
WITHOUT ROWID;
CREATE TABLE sealed (
    netuid INTEGER, hotkey TEXT, block INTEGER, ciphertext BLOB NOT NULL, round INTEGER NOT NULL, opened INTEGER,
    PRIMARY KEY (netuid, hotkey, block)
) WITHOUT ROWID;
CREATE TABLE nonces (address TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE extrinsics (
    block INTEGER, position INTEGER, address TEXT NOT NULL, call TEXT NOT NULL, signature TEXT NOT NULL,
    PRIMARY KEY (block, position)
) WITHOUT ROWID;
"""

_BUSY_TIMEOUT_S = 60.0


def next_hash(seed: str, parent: str, number: int) -> str:
    """The hash of block `number`: SHA-256 over the chain's seed, the parent's hash and the number.

    It does not depend on what the block holds, so a world built again has the same hashes.
    """
    return "0x" + hashlib.sha256(f"{seed}:{parent}:{number}".encode()).hexdigest()


@dataclass(frozen=True)
class Origin:
    """What a chain begins with, and never changes."""

    seed: str
    """Decides every block's hash."""
    start_block: int
    """The number of its first block."""
    started_at: float
    """The time of its first block, in seconds since 1970."""

    @property
    def genesis(self) -> str:
        """The hash of the block before the first: what tells this chain from others."""
        return next_hash(self.seed, "genesis", self.start_block - 1)


class Store:
    """One chain's file. Rows are plain; `sqlite3.Row` gives them by name."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ConfigError(f"there is no chain at {path}; expected the file of a chain made with Chain.create")
        self.path = path
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._finalizer = weakref.finalize(self, _close_all, self._open)
        try:
            whole = self.meta("origin") is not None
        except sqlite3.DatabaseError:
            whole = False
        if not whole:
            self.close()
            raise ConfigError(f"{path} is no chain; expected the file of a chain made with Chain.create")

    @classmethod
    def create(cls, path: Path, origin: Origin, subnets: Mapping[int, tuple[str, str]]) -> Store:
        """A new file holding one block; it appears whole or not at all. ConfigError when `path` exists.

        subnets: netuid -> name and rules, as JSON.
        """
        if path.exists():
            raise ConfigError(f"{path} exists already; expected a new path for the chain's file")
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}.new")
        aside.unlink(missing_ok=True)
        first = next_hash(origin.seed, origin.genesis, origin.start_block)
        blocks = [(origin.start_block - 1, origin.genesis), (origin.start_block, first)]
        try:
            with closing(sqlite3.connect(aside)) as database, database:
                database.execute("PRAGMA journal_mode=WAL")  # the file remembers it
                database.executescript(_SCHEMA)
                database.execute("INSERT INTO meta VALUES ('origin', ?)", (json.dumps(asdict(origin)),))
                rows = [(netuid, name, rules) for netuid, (name, rules) in subnets.items()]
                database.executemany("INSERT INTO subnets VALUES (?, ?, ?)", rows)
                database.executemany("INSERT INTO blocks VALUES (?, ?)", blocks)
            aside.replace(path)
        except sqlite3.OperationalError as error:
            raise ChainFault(f"the chain's file {path} cannot be written: {error}") from error
        finally:
            aside.unlink(missing_ok=True)
        return cls(path)

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection (a forked child gets its own)."""
        mine = getattr(self._local, "connection", None)
        if mine is None or self._local.pid != os.getpid():
            mine = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            mine.row_factory = sqlite3.Row
            mine.execute("PRAGMA synchronous=NORMAL")
            self._local.connection, self._local.pid = mine, os.getpid()
            self._open.append(mine)
        return mine

    def close(self) -> None:
        """Close every thread's connection; a later use opens again."""
        self._local = threading.local()
        _close_all(self._open)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: nobody else writes meanwhile; all of it holds, or nothing.

        Raises ChainFault when the file cannot be written (a full disk, a lock held too long).
        """
        connection = self.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise ChainFault(f"the chain's file {self.path} cannot be written: {error}") from error

    def rows(self, sql: str, *values: Value) -> list[sqlite3.Row]:
        """All rows of a query."""
        return self.connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Value) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        row: sqlite3.Row | None = self.connection.execute(sql, values).fetchone()
        return row

    def insert(self, table: str, **columns: Value) -> None:
        """Add a row, or replace the one of the same key; only inside `writing`."""
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        values = tuple(columns.values())
        self.connection.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", values)

    def meta(self, name: str) -> str | None:
        """A setting of the chain, or None when it was never set."""
        row = self.one("SELECT value FROM meta WHERE name = ?", name)
        return None if row is None else str(row["value"])

    @cached_property
    def origin(self) -> Origin:
        """What the chain began with."""
        return Origin(**json.loads(self.meta("origin") or ""))

    def netuids(self) -> list[int]:
        """The subnets of the chain, in order."""
        return [row["netuid"] for row in self.rows("SELECT netuid FROM subnets ORDER BY netuid")]

    def head(self) -> int:
        """The number of the newest sealed block."""
        row = self.one("SELECT MAX(number) AS number FROM blocks")
        return int(row["number"]) if row else 0

    def hash_of(self, number: int) -> str | None:
        """The hash of a block, or None where the chain has no such block."""
        row = self.one("SELECT hash FROM blocks WHERE number = ?", number)
        return None if row is None else str(row["hash"])

    def number_of(self, block_hash: str) -> int | None:
        """The number of the block with that hash, or None."""
        row = self.one("SELECT number FROM blocks WHERE hash = ?", block_hash)
        return None if row is None else int(row["number"])

    def seal(self, last: int) -> None:
        """Add the blocks after the head up to `last`; only inside `writing`."""
        head = self.head()
        parent = self.hash_of(head) or ""
        fresh = []
        for number in range(head + 1, last + 1):
            parent = next_hash(self.origin.seed, parent, number)
            fresh.append((number, parent))
        self.connection.executemany("INSERT INTO blocks VALUES (?, ?)", fresh)


def _close_all(connections: list[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()
