"""Rows of hub datasets as they were at a point in time, read in workers and kept on disk.

A repo is pinned to its newest commit at or before `as_of`. Which rows are read is the caller's affair; the same rows
come whatever fails and is tried again in between. Only parquet files are read. No byte of a dataset is opened here:
`sn37.data.jobs` does that, in a process of its own, and sends JSON.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from pydantic import TypeAdapter, ValidationError

from sn37.data.cache import kept, trim
from sn37.data.jobs import ReadLimits, Repo, Splits, count_rows, read_rows, split_files
from sn37.errors import DataFault, HubFault, disk_faults
from sn37.hub.client import Hub
from sn37.hub.connection import Refused
from sn37.sources.base import DataRow
from sn37.submission import is_full_commit
from sn37.workers.functions import WorkerFunction
from sn37.workers.isolation import ForkServer, WorkerDied
from sn37.workers.sandbox import Network

__all__ = ["PinnedDatasets", "ReadLimits"]

P = ParamSpec("P")
T = TypeVar("T")

_CARDS = ("README.md", ".huggingface.yaml")
"""Where a repo may say which files make up which split."""
_MAX_CARD_BYTES = 4 << 20
_MAX_SPLIT_FILES = 4_000
_LIMITS = ReadLimits()
_MAX_SPLITTING_S = 120.0
"""What finding the splits may take, where no hub is waited for."""


@dataclass(frozen=True)
class _Listed:
    """What a repo lists."""

    files: Mapping[str, int]
    """Path -> bytes."""
    cards: Mapping[str, str]
    """Name -> text."""


@dataclass(frozen=True)
class _Contents:
    """What a repo holds at its commit."""

    repo: Repo
    sizes: Mapping[str, int]
    """File -> bytes."""
    splits: Splits


class PinnedDatasets:
    """A reader of datasets (`sn37.sources.base.DatasetReader`), pinned at `as_of`.

    cache_dir: what was read before is not asked for again, also by other processes and later runs;
    revisions: commits to read at instead of the newest ones, as a replay does; worker_network: of the worker
    that needs none.

    >>> data = PinnedDatasets(hub, datetime.now(UTC), Path("cache"))
    >>> data.rows("open-r1/codeforces-cots", "solutions", "train", [0, 1], ["messages"])
    """

    def __init__(
        self,
        hub: Hub,
        as_of: datetime,
        cache_dir: Path,
        *,
        revisions: Mapping[str, str] | None = None,
        max_cache_bytes: int = 20 << 30,
        limits: ReadLimits = _LIMITS,
        worker_network: Network = "isolated",
    ) -> None:
        if as_of.tzinfo is None:
            raise ValueError(f"as_of is {as_of}; expected a time with its time zone")
        self.as_of = as_of.astimezone(UTC)
        self.revisions: dict[str, str] = {}
        """The commit of every repo read so far; belongs in the manifest."""
        self._hub, self._limits, self._worker_network = hub, limits, worker_network
        self._connection = replace(hub.connection, token=None)  # what only a token may read is read by nobody
        self._given = dict(revisions or {})
        self._folder = Path(cache_dir).absolute()
        self._contents: dict[str, _Contents] = {}
        with disk_faults(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            trim(self._folder, max_cache_bytes)

    def configs(self, repo: str) -> list[str]:
        """The dataset's configs, sorted. Raises DataFault and HubFault."""
        return sorted(self._open(repo).splits)

    def splits(self, repo: str, config: str) -> Mapping[str, Sequence[str]]:
        """Split -> its parquet files, in the order of their rows. Raises DataFault and HubFault."""
        return _known(self._open(repo).splits, "config", config, f"the dataset {repo}")

    def num_rows(self, repo: str, config: str, split: str) -> int:
        """How many rows the split has. Raises DataFault and HubFault."""
        return sum(self._count(repo, config, split))

    def rows(self, repo: str, config: str, split: str, indices: Sequence[int], columns: Sequence[str]) -> list[DataRow]:
        """The rows with those indices, in the order asked for, only those columns.

        Raises DataFault, which names what there is instead, and HubFault.
        """
        counts, columns, order = self._count(repo, config, split), list(dict.fromkeys(columns)), sorted(set(indices))
        contents = self._open(repo)
        place = replace(contents.repo, part=f"{config}, {split}")
        for index in order[:1] + order[-1:]:
            if not 0 <= index < sum(counts):
                raise DataFault(f"{place} has {sum(counts)} rows; row {index} is asked for")
        asked, start = [], 0
        for path, count in zip(self._files(repo, config, split), counts, strict=True):
            if inside := [index - start for index in order if start <= index < start + count]:
                asked.append((path, contents.sizes[path], inside))
            start += count
        found = self._read(place, read_rows, files=asked, columns=columns) if asked else []
        rows = dict(zip(order, found, strict=True))
        return [dict(zip(columns, rows[index], strict=True)) for index in indices]

    def _files(self, repo: str, config: str, split: str) -> Sequence[str]:
        files = _known(self.splits(repo, config), "split", split, f"the dataset {repo} (config {config})")
        where = f"the dataset {repo} ({config}, {split})"
        if not files:
            raise DataFault(f"{where} has no parquet files; only those are read")
        if len(files) > _MAX_SPLIT_FILES:
            raise DataFault(f"{where} has {len(files)} files, too many to count the rows of; choose a smaller config")
        return files

    def _count(self, repo: str, config: str, split: str) -> list[int]:
        """Rows of each file of a split."""
        contents = self._open(repo)
        files = [(path, contents.sizes[path]) for path in self._files(repo, config, split)]
        place = replace(contents.repo, part=f"{config}, {split}")
        path = Path(place.folder) / "counts" / hashlib.sha256(json.dumps([config, split]).encode()).hexdigest()
        return _kept(path, list[int], lambda: self._read(place, count_rows, files=files))

    def _open(self, name: str) -> _Contents:
        if name not in self._contents:
            commit = self._given.get(name) or self._pin(name)
            if not is_full_commit(commit):
                raise DataFault(f"the dataset {name} cannot be pinned to {commit!r}: that is no full commit")
            folder = self._folder / name.replace("/", "--") / commit
            repo = Repo(self._connection, self._limits, name, commit, str(folder))
            listed = _kept(folder / "files", _Listed, lambda: self._list(repo))
            splits = _kept(
                folder / "splits",
                Splits,
                lambda: self._read(repo, split_files, files=list(listed.files), cards=listed.cards),
            )
            self._contents[name] = _Contents(repo, listed.files, splits)
        self.revisions[name] = self._contents[name].repo.commit
        return self._contents[name]

    def _pin(self, name: str) -> str:
        path = self._folder / "pins" / f"{name.replace('/', '--')}@{self.as_of:%Y%m%dT%H%M%S.%f}"
        return kept(path, lambda: self._hub.newest_commit(name, "dataset", self.as_of).encode()).decode()

    def _list(self, repo: Repo) -> _Listed:
        """What is in a repo that is open to everybody."""
        cards = {}
        try:
            listed = self._connection.files(repo.name, "dataset", repo.commit, private_too=False)
            files = {file.path: file.size for file in listed}
            for name in (name for name in _CARDS if name in files):
                card = self._connection.read_file(repo.name, "dataset", repo.commit, name, _MAX_CARD_BYTES)
                cards[name] = card.decode(errors="replace")
        except Refused as refused:
            raise DataFault(f"{repo} is not there, or not public ({refused.reason})") from None
        except HubFault as fault:
            raise HubFault(f"{repo} cannot be listed: {fault}") from fault
        if long := [name for name, text in cards.items() if len(text) > _MAX_CARD_BYTES]:
            raise DataFault(f"the {long[0]} of {repo} is longer than {_MAX_CARD_BYTES:,} bytes")
        return _Listed(files, cards)

    def _read(
        self, repo: Repo, function: WorkerFunction[Concatenate[Repo, P], T], *args: P.args, **arguments: P.kwargs
    ) -> T:
        """What a function of `sn37.data.jobs` gives; how its worker dies says whose fault it is."""
        offline, limits = function is split_files, self._limits
        time_limit_s = min(limits.deadline_s, _MAX_SPLITTING_S) if offline else limits.deadline_s
        server = _server(self._worker_network if offline else "open")
        try:
            return function.run(server, time_limit_s, limits.memory_bytes, repo, *args, **arguments)
        except WorkerDied as error:
            if error.kind == "memory":
                raise DataFault(f"{repo} unpacks to more than its reader's {limits.memory_bytes:,} bytes") from error
            if error.kind == "time" and not offline:
                raise HubFault(f"{repo} was not read within {time_limit_s:g} s") from error
            if error.kind == "time" or (error.kind == "signal" and "SIGKILL" not in str(error)):
                raise DataFault(f"{repo} stops its reader: {error}") from error
            raise


def _kept(path: Path, kind: type[T], read: Callable[[], T]) -> T:
    adapter: TypeAdapter[T] = TypeAdapter(kind)

    def again() -> T:
        return adapter.validate_json(kept(path, lambda: adapter.dump_json(read())))

    try:
        return again()
    except ValidationError:  # what another version has kept
        path.unlink(missing_ok=True)
        return again()


def _known(named: Mapping[str, T], kind: str, name: str, where: str) -> T:
    if name not in named:
        raise DataFault(f"{where} has no {kind} {name!r}; it has {', '.join(sorted(named)[:50]) or 'none'}")
    return named[name]


@functools.cache
def _server(network: Network) -> ForkServer:
    """The clean process from which this process's readers are forked; it ends with this one."""
    fetching = ("huggingface_hub.file_download", "pyarrow.parquet", "sn37.data.jobs", "sn37.hub.session")
    server = ForkServer(fetching if network == "open" else ("datasets.load", "sn37.data.jobs"), network)
    atexit.register(server.close)
    return server
