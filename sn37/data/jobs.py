"""What a worker reads of a dataset: its list of files, its splits, its row counts, its rows. JSON in and out.

Everything here was written by strangers, so it runs where a memory limit and a deadline hold (`sn37.workers`); what a
dataset does to its reader ends as that dataset's fault. `split_files` needs no network and is given none: a README may
point anywhere. Nothing is unpickled and no code of a dataset is run. Does not protect against a parquet file that
takes over pyarrow itself: such code has what the worker has, the network and the user's files.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sn37.data.remote import RemoteFile, Repo, faults
from sn37.errors import DataFault, HubFault, Sn37Error

if TYPE_CHECKING:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

__all__ = ["count_rows", "list_files", "read_rows", "split_files"]

MAX_FILES = 200_000
MAX_CARD_BYTES = 4 << 20
MAX_TEXT_CHARACTERS = 500_000
"""Longer texts are cut: a sample of over 400 000 characters is left out anyway (protocol, section 6)."""
MAX_ANSWER_CHARACTERS = 128 << 20
MAX_GROUP_ROWS = 100_000_000

_CARDS = ("README.md", ".huggingface.yaml")
"""Where a repo may say which files make up which split."""
_IGNORED = "dataset_infos.json"
_UNSOUND = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""What reading a malformed parquet file raises: pyarrow's own errors are some of these."""
_PARALLEL = 8
_BATCH_ROWS = 256
_BUFFER_BYTES = 4 << 20
"""Bytes asked for at once within a column chunk, where a page is not longer."""

Report = Callable[[dict[str, Any]], None]


def list_files(payload: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """{"files": {path: bytes}, "cards": {name: text}} of a repo that is open to everybody.

    Raises DataFault: missing, private, gated, too many files, a card too long; HubFault.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    repo = Repo(**payload["repo"])
    files: dict[str, int] = {}
    with faults(repo, "its list of files"):
        try:
            api = HfApi(endpoint=repo.endpoint, token=False)
            info = api.dataset_info(repo.name, revision=repo.commit)
            if info.private or info.gated or info.disabled or info.sha != repo.commit:
                raise DataFault(f"{repo} is not there, or not public at {repo.commit}")
            for entry in api.list_repo_tree(repo.name, recursive=True, revision=repo.commit, repo_type="dataset"):
                if isinstance(entry, RepoFile):
                    files[str(entry.path)] = int(entry.size)
                if len(files) > MAX_FILES:
                    raise DataFault(f"{repo} has over {MAX_FILES:,} files; expected fewer")
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:  # what is no JSON among them
            raise HubFault(f"the hub's answer about {repo} makes no sense: {error!r}") from error
        cards = {name: _card(repo, name, files[name]) for name in _CARDS if name in files}
    return {"files": files, "cards": cards}


def _card(repo: Repo, name: str, size: int) -> str:
    if size > MAX_CARD_BYTES:
        raise DataFault(f"the {name} of {repo} has {size:,} bytes; at most {MAX_CARD_BYTES:,} are read")
    return RemoteFile(repo, name, size).read().decode(errors="replace")


def split_files(payload: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """{"configs": {config: {split: [parquet files in the order of their rows]}}}, as `datasets` finds them.

    It is shown a folder of empty files with the repo's names, and the repo's own cards. Raises DataFault.
    """
    repo, files = Repo(**payload["repo"]), payload["files"]
    root = Path("repo").absolute()
    try:
        _make_folder(root, files, payload["cards"])
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
    return {"configs": found}


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


def count_rows(payload: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """{"rows": [rows of each file]} of `files` (path, bytes), from their footers. Raises DataFault and HubFault."""
    repo = Repo(**payload["repo"])

    def count(file: tuple[str, int]) -> int:
        with _opened(repo, *file) as parquet:
            return sum(_group_rows(parquet))

    with ThreadPoolExecutor(_PARALLEL) as pool:
        return {"rows": list(pool.map(count, payload["files"]))}


def read_rows(payload: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """{"rows": [[a value for each of `columns`]]}, of each of `files` (path, bytes, ascending rows) in turn.

    Raises DataFault: a column that is missing, a row group or all rows together larger than allowed; HubFault.
    """
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())  # takes no more than is used, and fails where the limit is
    repo, columns = Repo(**payload["repo"]), payload["columns"]
    rows: list[list[Any]] = []
    characters = 0
    for path, size, wanted in payload["files"]:
        with _opened(repo, path, size) as parquet:
            known = parquet.schema_arrow.names
            if missing := [column for column in columns if column not in known]:
                raise DataFault(f"{repo} has no column {missing[0]!r}; it has {', '.join(known[:50])}")
            for row in _rows(parquet, wanted, columns, payload["max_group_bytes"]):
                plain = [_plain(row[column]) for column in columns]
                characters += len(str(plain))
                if characters > MAX_ANSWER_CHARACTERS:
                    raise DataFault(f"the rows asked of {repo} hold over {MAX_ANSWER_CHARACTERS:,} characters")
                rows.append(plain)
    return {"rows": rows}


@contextmanager
def _opened(repo: Repo, path: str, size: int) -> Iterator[pq.ParquetFile]:
    """A parquet file; what is wrong with it is raised as a DataFault that names it."""
    import pyarrow.parquet as pq

    where = f"the file {path} of {repo}"
    try:
        with faults(repo, path):
            # buffered, not read ahead: of a row group only what comes before the last row wanted is fetched
            yield pq.ParquetFile(RemoteFile(repo, path, size), buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except MemoryError:
        raise DataFault(f"{where} unpacks to more than its reader's memory") from None
    except _UNSOUND as error:
        if isinstance(error, Sn37Error):
            raise
        reason = " ".join(str(error).split())[:500]
        raise DataFault(f"{where} is no sound parquet file: {reason}") from None


def _group_rows(parquet: pq.ParquetFile) -> list[int]:
    """Rows of each row group, as the footer says."""
    meta = parquet.metadata
    rows = [int(meta.row_group(i).num_rows) for i in range(meta.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != meta.num_rows:
        raise ValueError("its row groups do not add up to its rows")
    return rows


def _rows(
    parquet: pq.ParquetFile, wanted: Sequence[int], columns: Sequence[str], max_group_bytes: int
) -> Iterator[dict[str, Any]]:
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


def _plain(value: Any) -> Any:
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
