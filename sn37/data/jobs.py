"""What a worker reads of a dataset: its splits, its row counts, its rows.

Everything here was written by strangers, so it runs where a memory limit and a deadline hold (`sn37.workers`); what a
dataset does to its reader ends as that dataset's fault. `split_files` needs no network and is given none: a README may
point anywhere. Nothing is unpickled and no code of a dataset is run. Does not protect against a parquet file that
takes over pyarrow itself: such code has what the worker has, the network and the user's files.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sn37.data.cache import KeptFile
from sn37.errors import DataFault, HubFault, Sn37Error
from sn37.hub.connection import Connection
from sn37.sources.base import DataRow
from sn37.workers.functions import WorkerFunction

if TYPE_CHECKING:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

__all__ = ["ReadLimits", "Repo", "count_rows", "read_rows", "split_files"]

MAX_TEXT_CHARACTERS = 500_000
"""Longer texts are cut: a sample of over 400 000 characters is left out anyway (protocol, section 6)."""
MAX_ANSWER_CHARACTERS = 128 << 20
MAX_GROUP_ROWS = 100_000_000

_IGNORED = "dataset_infos.json"
_UNSOUND = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""What reading a malformed parquet file raises: pyarrow's own errors are some of these."""
_PARALLEL = 8
_BATCH_ROWS = 256
_BUFFER_BYTES = 4 << 20
"""Bytes asked for at once within a column chunk, where a page is not longer."""


@dataclass(frozen=True)
class ReadLimits:
    """What one reading of a dataset may take."""

    memory_bytes: int = 4 << 30
    """Memory of the worker that unpacks what is read."""
    max_group_bytes: int = 1 << 30
    """What the columns asked for may unpack to in one row group."""
    deadline_s: float = 900.0
    """From the first request to the last byte, all tries included."""


@dataclass(frozen=True)
class Repo:
    """A dataset repo at one commit, and what is read of it."""

    connection: Connection
    """The hub it is on."""
    limits: ReadLimits
    """What reading it may take."""
    name: str
    """`namespace/name`."""
    commit: str
    """The full commit."""
    folder: str
    """Where what is read is kept: for this repo and commit alone."""
    part: str = ""
    """The config and split, for messages."""

    def __str__(self) -> str:
        return f"the dataset {self.name}" + (f" ({self.part})" if self.part else "")


Splits = dict[str, dict[str, list[str]]]
"""Config -> split -> parquet files, in the order of their rows."""


@WorkerFunction
def split_files(repo: Repo, files: Sequence[str], cards: Mapping[str, str]) -> Splits:
    """The splits as `datasets` finds them: of a folder of empty files with those names, and the repo's own cards.

    cards: name -> text. Raises DataFault.
    """
    root = Path("repo").absolute()
    try:
        _make_folder(root, files, cards)
        found = dict(_datasets_splits(root))
    except (Sn37Error, MemoryError):
        raise
    except Exception as error:  # the library meets a malformed card or layout with errors of any type
        reason = " ".join(str(error).replace(f"{root}", repo.name).split())[:500]
        raise DataFault(
            f"{repo}: the library `datasets` cannot tell its splits from README and files: {reason}"
        ) from None
    for splits in found.values():
        for split, paths in splits.items():
            inside = [path.removeprefix(f"{root}/") for path in paths if path.endswith(".parquet")]
            if not set(inside) <= set(files):
                raise DataFault(f"the README of {repo} points outside of it")
            splits[split] = inside
    return found


def _make_folder(root: Path, files: Sequence[str], cards: Mapping[str, str]) -> None:
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name:
            raise ValueError(f"{name!r} is no name of a file")
        if name != _IGNORED:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
    for name, text in cards.items():
        (root / name).write_text(text, encoding="utf-8")


def _datasets_splits(root: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    from datasets import DownloadConfig  # type: ignore[import-untyped]
    from datasets.data_files import DataFilesPatternsDict  # type: ignore[import-untyped]
    from datasets.load import dataset_module_factory  # type: ignore[import-untyped]

    module = dataset_module_factory(str(root))
    if not module.module_path.endswith(".parquet.parquet"):
        raise ValueError("its files are not parquet; only those are read")
    for config in module.builder_configs_parameters.builder_configs or ():
        data_files = config.data_files or {}
        if isinstance(data_files, DataFilesPatternsDict):
            base = str(root / config.data_dir) if config.data_dir else str(root)
            data_files = data_files.resolve(base, DownloadConfig())
        yield config.name, {str(split): list(paths) for split, paths in data_files.items()}


@WorkerFunction
def count_rows(repo: Repo, files: Sequence[tuple[str, int]]) -> list[int]:
    """The rows of each of the files (path, bytes), from their footers. Raises DataFault and HubFault."""
    opened = _opener(repo)

    def count(file: tuple[str, int]) -> int:
        with opened(*file) as parquet:
            return sum(_group_rows(parquet))

    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(count, files))


@WorkerFunction
def read_rows(
    repo: Repo, files: Sequence[tuple[str, int, Sequence[int]]], columns: Sequence[str]
) -> list[list[object]]:
    """Rows, each a value for each column as JSON has it, of each of the files (path, bytes, ascending rows) in turn.

    Raises DataFault: a column that is missing, a row group or all rows together larger than allowed; HubFault.
    """
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())  # takes no more than is used, and fails where the limit is
    opened = _opener(repo)
    rows: list[list[object]] = []
    characters = 0
    for path, size, wanted in files:
        with opened(path, size) as parquet:
            known = parquet.schema_arrow.names
            if missing := [column for column in columns if column not in known]:
                raise DataFault(f"{repo} has no column {missing[0]!r}; it has {', '.join(known[:50])}")
            for row in _rows(parquet, wanted, columns, repo.limits.max_group_bytes):
                plain = [_plain(row[column]) for column in columns]
                characters += len(str(plain))
                if characters > MAX_ANSWER_CHARACTERS:
                    raise DataFault(f"the rows asked of {repo} hold over {MAX_ANSWER_CHARACTERS:,} characters")
                rows.append(plain)
    return rows


def _opener(repo: Repo) -> Callable[[str, int], AbstractContextManager[pq.ParquetFile]]:
    """A function that opens the parquet files of a repo, given a path and its bytes."""
    import httpx2
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sn37.hub.session import open_session

    open_session(repo.connection, repo.limits.deadline_s)

    @contextmanager
    def opened(path: str, size: int) -> Iterator[pq.ParquetFile]:
        where = f"the file {path} of {repo}"
        folder = Path(repo.folder) / hashlib.sha256(path.encode()).hexdigest()
        file = KeptFile(folder, size, lambda start, end: _fetch(repo, path, start, end))
        try:
            # buffered, not read ahead: of a row group only what comes before the last row wanted is fetched
            yield pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except MemoryError:
            raise DataFault(f"{where} unpacks to more than its reader's memory") from None
        except (Sn37Error, httpx2.HTTPError) as error:
            kind = HubFault if isinstance(error, HubFault | httpx2.HTTPError) else DataFault
            raise kind(f"{where} cannot be had: {error}") from error
        except (pa.ArrowException, *_UNSOUND) as error:
            reason = " ".join(str(error).split())[:500]
            raise DataFault(f"{where} is no sound parquet file: {reason}") from None

    return opened


def _fetch(repo: Repo, path: str, start: int, end: int) -> bytes:
    """The bytes of a file from start to end, exclusive, in the manner of `sn37.hub.session`; without a token."""
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    endpoint = repo.connection.endpoint
    url = hf_hub_url(repo.name, path, repo_type="dataset", revision=repo.commit, endpoint=endpoint)
    headers = {**build_hf_headers(token=False), "Range": f"bytes={start}-{end - 1}"}
    response = get_session().get(url, headers=headers)
    if response.status_code >= 300:
        definite = response.status_code in (401, 403, 404, 410, 416, 451)
        raise (DataFault if definite else HubFault)(f"the hub answers with status {response.status_code}")
    if len(response.content) != end - start:
        raise HubFault(f"the hub sent {len(response.content):,} bytes where {end - start:,} were asked for")
    return bytes(response.content)


def _group_rows(parquet: pq.ParquetFile) -> list[int]:
    """Rows of each row group, as the footer says."""
    meta = parquet.metadata
    rows = [int(meta.row_group(i).num_rows) for i in range(meta.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != meta.num_rows:
        raise ValueError("its row groups do not add up to its rows")
    return rows


def _rows(
    parquet: pq.ParquetFile, wanted: Sequence[int], columns: Sequence[str], max_group_bytes: int
) -> Iterator[DataRow]:
    """The rows of a file at those ascending positions."""
    starts = itertools.accumulate(_group_rows(parquet), initial=0)
    for group, (start, end) in enumerate(itertools.pairwise(starts)):
        places = [row - start for row in wanted if start <= row < end]
        if not places:
            continue
        _check_size(parquet, group, columns, max_group_bytes)
        first = 0
        # Batches come in the order of the rows; none is decoded that begins behind the last row wanted.
        for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=list(columns), use_threads=False):
            for place in places:
                if first <= place < first + batch.num_rows:
                    yield from batch.slice(place - first, 1).to_pylist()
            first += batch.num_rows
            if first > places[-1]:
                break
        else:
            raise ValueError(f"its row group {group} holds {first} rows, fewer than its footer says")


def _check_size(parquet: pq.ParquetFile, group: int, columns: Sequence[str], max_group_bytes: int) -> None:
    """Refuse a row group by what its footer says; the memory limit holds where the footer lies."""
    meta = parquet.metadata.row_group(group)
    chunks = [meta.column(i) for i in range(meta.num_columns)]
    size = sum(
        max(chunk.total_uncompressed_size, chunk.total_compressed_size)
        for chunk in chunks
        if any(f"{chunk.path_in_schema}.".startswith(f"{column}.") for column in columns)
    )
    if size > max_group_bytes or meta.num_rows > MAX_GROUP_ROWS:
        raise ValueError(
            f"the columns {', '.join(columns)} of its row group {group} unpack to {size:,} bytes in {meta.num_rows:,} "
            f"rows; at most {max_group_bytes:,} bytes and {MAX_GROUP_ROWS:,} rows are read"
        )


def _plain(value: object) -> object:
    """A cell as JSON has it: texts cut, dates and decimals as text; None for bytes and numbers that are not finite."""
    if isinstance(value, str):
        return value[:MAX_TEXT_CHARACTERS]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal | date | time):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {str(key): _plain(item) for key, item in value.items()} if isinstance(value, dict) else None
