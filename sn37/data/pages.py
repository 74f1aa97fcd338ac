"""Rows of hub datasets as they were at a point in time, read by byte range and kept on disk.

A repo is pinned to its newest commit at or before `as_of`. Which rows are read is the caller's
affair; the same rows come whatever fails and is tried again in between. Needs parquet files.
Does not protect against a hostile parquet file that breaks pyarrow itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sn37.data.layout import Layout, layout
from sn37.data.parquet import Footer, Leaf, footer_rows, read_footer, read_leaf
from sn37.data.ranges import kept, read_ranges, trim
from sn37.errors import DataFault, Sn37Error, disk_faults
from sn37.hub.client import Hub
from sn37.hub.repos import file_path, full_commit, listing, opened, repo_path
from sn37.hub.wire import Absent, TooLong, Wire

__all__ = ["PinnedDatasets"]

T = TypeVar("T")
R = TypeVar("R")

_PARALLEL = 8
_MAX_FILES = 4_000
_MAX_README_BYTES = 16 << 20
_LEFT_OUT = object()


class PinnedDatasets:
    """A reader of datasets (`sn37.sources.base.DatasetReader`), pinned at `as_of`.

    cache_dir: what was read before is not asked for again, also by other processes and later runs;
    revisions: commits to read at instead of the newest ones, as a replay does.
    """

    def __init__(
        self,
        hub: Hub,
        as_of: datetime,
        cache_dir: Path,
        *,
        revisions: Mapping[str, str] | None = None,
        max_cache_bytes: int = 20 << 30,
    ) -> None:
        if as_of.tzinfo is None:
            raise ValueError(f"as_of is {as_of}; expected a time with its time zone")
        self.hub = hub
        self.as_of = as_of.astimezone(UTC)
        self.revisions: dict[str, str] = {}
        """The commit of every repo read so far; belongs in the manifest."""
        self._given = dict(revisions or {})
        self._folder = Path(cache_dir)
        self._repos: dict[str, _PinnedRepo] = {}
        with disk_faults(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            trim(self._folder, max_cache_bytes)

    def configs(self, repo: str) -> list[str]:
        """The dataset's configs, sorted. Raises DataFault and HubFault."""
        return sorted(self._repo(repo).layout)

    def num_rows(self, repo: str, config: str, split: str) -> int:
        """How many rows the split has. Raises DataFault and HubFault."""
        return sum(self._repo(repo).counts(config, split))

    def rows(
        self, repo: str, config: str, split: str, indices: Sequence[int], columns: Sequence[str]
    ) -> list[dict[str, Any]]:
        """The rows with those indices, in the order asked for, only those columns. Raises DataFault and HubFault."""
        with disk_faults(self._folder):
            return self._repo(repo).rows(config, split, indices, list(dict.fromkeys(columns)))

    def _repo(self, repo: str) -> _PinnedRepo:
        if repo not in self._repos:
            with disk_faults(self._folder):
                self._repos[repo] = _PinnedRepo(self.hub, repo, self._pin(repo), self._folder)
        self.revisions[repo] = self._repos[repo].commit
        return self._repos[repo]

    def _pin(self, repo: str) -> str:
        if repo in self._given:
            return self._given[repo]
        path = self._folder / "pins" / f"{repo.replace('/', '--')}@{self.as_of:%Y%m%dT%H%M%S.%f}"
        return kept(path, lambda: self.hub.newest_commit(repo, "dataset", self.as_of).encode()).decode()


class _PinnedRepo:
    """One dataset repo at one commit."""

    def __init__(self, hub: Hub, repo: str, commit: str, folder: Path) -> None:
        if not full_commit(commit):
            raise DataFault(f"the dataset {repo} cannot be pinned to {commit!r}: that is no full commit")
        try:
            repo_path(repo)
        except Absent as error:
            raise DataFault(str(error)) from None
        known = hub.connection
        self.wire = Wire(known.endpoint, known.token, known.timeout_s, known.attempts, known.first_wait_s)
        self.repo, self.commit = repo, commit
        self.folder = folder / repo.replace("/", "--") / commit
        try:
            listed = json.loads(kept(self.folder / "listing", self._listing))
        except (Absent, OverflowError) as error:
            raise DataFault(f"the dataset {repo} is not there, or not public ({error})") from None
        self.sizes: dict[str, int] = listed["files"]
        try:
            self.layout: Layout = layout(list(self.sizes), listed["readme"])
        except ValueError as error:
            raise DataFault(f"the dataset {repo} at {commit}: {error}") from None
        self._footers: dict[str, Footer] = {}
        self._counts: dict[tuple[str, str], list[int]] = {}

    def _listing(self) -> bytes:
        opened(self.wire, self.repo, "dataset", self.commit, private_too=False)
        files = {file.path: file.size for file in listing(self.wire, self.repo, "dataset", self.commit)}
        readme: list[bytes] = []
        if "README.md" in files:
            try:
                self.wire.download(self._where("README.md"), readme.append, _MAX_README_BYTES)
            except TooLong:
                raise DataFault(f"the README of the dataset {self.repo} is too long") from None
        text = b"".join(readme).decode(errors="replace")
        return json.dumps({"files": files, "readme": text}).encode()

    def files(self, config: str, split: str) -> Sequence[str]:
        """The parquet files of a split."""
        if config not in self.layout:
            self._unknown("config", config, sorted(self.layout))
        splits = self.layout[config]
        if split not in splits:
            self._unknown("split", split, sorted(splits), f"config {config}")
        if not splits[split]:
            raise DataFault(f"the dataset {self.repo} ({config}, {split}) has no parquet files; only those are read")
        if len(splits[split]) > _MAX_FILES:
            raise DataFault(
                f"the dataset {self.repo} ({config}, {split}) has {len(splits[split])} files, too many to count the "
                f"rows of; choose a smaller config"
            )
        return splits[split]

    def _unknown(self, kind: str, name: str, known: Sequence[str], place: str = "") -> None:
        place = f" ({place})" if place else ""
        shown = ", ".join(known[:50]) or "none"
        raise DataFault(f"the dataset {self.repo}{place} has no {kind} {name!r}; it has {shown}")

    def counts(self, config: str, split: str) -> list[int]:
        """Rows of each file of a split."""
        if (config, split) not in self._counts:

            def count(path: str) -> int:
                return footer_rows(lambda spans: self._read(path, spans), self.sizes[path])

            self._counts[config, split] = self._each(count, self.files(config, split))
        return self._counts[config, split]

    def rows(self, config: str, split: str, indices: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        files, counts = self.files(config, split), self.counts(config, split)
        total = sum(counts)
        wrong = next((index for index in indices if not 0 <= index < total), None)
        if wrong is not None:
            raise DataFault(f"the dataset {self.repo} ({config}, {split}) has {total} rows; row {wrong} is asked for")
        jobs: list[tuple[str, int, Leaf, list[int]]] = []
        places: dict[int, tuple[str, int, int]] = {}
        start = 0
        for path, count in zip(files, counts, strict=True):
            local = sorted({index - start for index in indices if start <= index < start + count})
            for group, rows in self._grouped(path, local, columns, config):
                places |= {start + self._footers[path].starts[group] + row: (path, group, row) for row in rows}
                leaves = (leaf for leaf in self._footers[path].leaves if leaf.path[0] in columns)
                jobs.extend((path, group, leaf, rows) for leaf in leaves)
            start += count

        def read(job: tuple[str, int, Leaf, list[int]]) -> list[Any]:
            path, group, leaf, rows = job
            return read_leaf(lambda spans: self._read(path, spans), self._footers[path], group, leaf, rows)

        cells: dict[tuple[str, int, int, str], Any] = {}
        for (path, group, leaf, rows), values in zip(jobs, self._each(read, jobs, lambda job: job[0]), strict=True):
            for row, content in zip(rows, values, strict=True):
                place = (path, group, row, leaf.path[0])
                cells[place] = self._merged(cells.get(place, _LEFT_OUT), content, path)
        return [{column: cells[(*places[index], column)] for column in columns} for index in indices]

    def _grouped(
        self, path: str, rows: Sequence[int], columns: Sequence[str], config: str
    ) -> Iterable[tuple[int, list[int]]]:
        """(row group, rows within it), of rows of a file; its columns are checked."""
        if not rows:
            return
        if path not in self._footers:
            self._footers[path] = self._each(
                lambda p: read_footer(lambda spans: self._read(p, spans), self.sizes[p]), [path]
            )[0]
        footer = self._footers[path]
        for column in columns:
            if column not in footer.columns:
                self._unknown("column", column, footer.columns, f"config {config}, file {path}")
        groups: dict[int, list[int]] = {}
        for row in rows:
            group = footer.group_of(row)
            groups.setdefault(group, []).append(row - footer.starts[group])
        yield from groups.items()

    def _merged(self, left: Any, right: Any, path: str) -> Any:
        """One value out of the values of two leaves of the same column."""
        if left is _LEFT_OUT or left is right:
            return right
        if isinstance(left, dict) and isinstance(right, dict):
            return {**left, **{key: self._merged(left.get(key, _LEFT_OUT), right[key], path) for key in right}}
        if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
            return [self._merged(a, b, path) for a, b in zip(left, right, strict=True)]
        raise DataFault(f"the file {path} of the dataset {self.repo} is malformed: its nested columns do not fit")

    def _each(
        self, action: Callable[[T], R], items: Sequence[T], path: Callable[[T], str] = lambda item: str(item)
    ) -> list[R]:
        """Do it for every item, several at once; the first failure in their order is raised."""

        def attempt(item: T) -> R | Exception:
            try:
                return action(item)
            except Absent as error:
                return DataFault(f"the file {path(item)} of the dataset {self.repo} cannot be had ({error})")
            except Sn37Error as error:
                return error
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                return DataFault(f"the file {path(item)} of the dataset {self.repo} is no sound parquet file: {error}")
            except Exception as error:
                return error

        with ThreadPoolExecutor(_PARALLEL) as pool:
            results = list(pool.map(attempt, items))
        done: list[R] = []
        for result in results:
            if isinstance(result, Exception):
                raise result
            done.append(result)
        return done

    def _read(self, path: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        where = self._where(path)
        folder = self.folder / hashlib.sha256(path.encode()).hexdigest()
        return read_ranges(folder, self.sizes[path], spans, lambda start, end: self.wire.read(where, start, end))

    def _where(self, path: str) -> str:
        return file_path(self.repo, "dataset", self.commit, path)
