"""An index over a competition's decided epochs: one file in place of ten thousand, for folds over all of them.

Never a second truth: each row tells when its epoch's `decision.json` was written, and an epoch that was added, changed
or removed since is read anew or dropped. An index that is missing, damaged or of another format is made again; where
none can be written, folds are as right without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.errors import EvaluatorFault
from sn37.files import write_bytes
from sn37.records.decision import Decision
from sn37.records.history import History, Key, Tried, Win

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Schema  # type: ignore[import-untyped]

__all__ = ["INDEX_FILE", "indexed_history"]

INDEX_FILE = "index.arrow"
"""The index's name in a competition's folder."""

_DIGEST_BYTES = 32


def indexed_history(
    folder: Path, read_decision: Callable[[int], Decision], before: int | None, remembered: int
) -> History:
    """The history of a competition's folder: of all its decided epochs of sync blocks below `before`.

    read_decision: the decision of the epoch at a sync block; called for those the index does not know yet.
    """
    return _history(_updated(folder, read_decision), before, remembered)


def _updated(folder: Path, read_decision: Callable[[int], Decision]) -> RecordBatch:
    """The index as it has to be now, written where it had to change."""
    written = _written_at(folder)
    known = _read(folder / INDEX_FILE)
    blocks: list[int] = known["sync_block"].to_pylist()
    indexed: dict[int, int] = dict(zip(blocks, known["written_ns"].to_pylist(), strict=True))
    if indexed == written:
        return known
    import pyarrow

    holds = {block: written.get(block) == written_ns for block, written_ns in indexed.items()}
    kept = known.filter(pyarrow.array([holds[block] for block in blocks], "bool"))
    added = {block: read_decision(block) for block in sorted(written) if not holds.get(block)}
    rows = pyarrow.Table.from_batches([kept, _rows(added, written)]).sort_by("sync_block")
    index = rows.unify_dictionaries().combine_chunks().to_batches()[0] if rows.num_rows else _rows({}, {})
    with contextlib.suppress(EvaluatorFault):
        _write(folder / INDEX_FILE, index)
    return index


def _written_at(folder: Path) -> dict[int, int]:
    """When the decision of each sealed epoch was written, in nanoseconds, by sync block."""
    blocks = [entry.name for entry in os.scandir(folder) if entry.name.isdigit()] if folder.is_dir() else []
    try:
        return {int(block): (folder / block / "decision.json").stat().st_mtime_ns for block in blocks}
    except FileNotFoundError as error:
        raise EvaluatorFault(f"the record {error.filename} is missing; move its folder away to go on") from error


def _schema() -> Schema:
    """One row a model and epoch, in the order of the epochs and then of their scores; one without a hotkey for an epoch
    in which nobody was evaluated."""
    import pyarrow

    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    columns = {"sync_block": "int64", "written_ns": "int64", "won": "bool", "score": "float64"}
    return pyarrow.schema({**columns, "hotkey": text, "uid": "int32", "block": "int64", "text": text, "fault": text})


def _rows(decisions: Mapping[int, Decision], written: Mapping[int, int]) -> RecordBatch:
    import pyarrow

    rows: list[dict[str, object]] = []
    for sync_block, decision in decisions.items():
        epoch: dict[str, object] = {"sync_block": sync_block, "written_ns": written[sync_block]}
        for score in decision.scores:
            fault = score.fault.owner if score.fault else None
            who = {"hotkey": score.hotkey, "uid": score.uid, "block": score.block, "text": score.text}
            rows.append({**epoch, **who, "score": score.score, "fault": fault, "won": score.hotkey == decision.winner})
        if not decision.scores:
            rows.append(epoch)
    return pyarrow.RecordBatch.from_pylist(rows, schema=_schema())


def _write(path: Path, index: RecordBatch) -> None:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    with pyarrow.ipc.new_file(sink, index.schema, options=options) as file:
        file.write_batch(index)
    data = sink.getvalue().to_pybytes()
    write_bytes(path, hashlib.sha256(data).digest() + data)


def _read(path: Path) -> RecordBatch:
    """The index as it was written, empty where it is missing or not what was written."""
    import pyarrow

    with contextlib.suppress(OSError, pyarrow.ArrowException):
        data = memoryview(path.read_bytes())
        if hashlib.sha256(data[_DIGEST_BYTES:]).digest() == data[:_DIGEST_BYTES]:
            index = pyarrow.ipc.open_file(pyarrow.py_buffer(data[_DIGEST_BYTES:])).get_batch(0)
            if index.schema == _schema():
                return index
    return _rows({}, {})


def _history(index: RecordBatch, before: int | None, remembered: int) -> History:
    blocks: list[int] = index["sync_block"].to_pylist()
    rows = index if before is None else index.slice(0, bisect_left(blocks, before))
    hotkeys, texts, scores = rows["hotkey"], rows["text"], rows["score"]
    # Both columns are numbers into lists of distinct texts, so that most rows cost a pair of small numbers.
    last: defaultdict[tuple[int | None, int], deque[int]] = defaultdict(lambda: deque(maxlen=remembered))
    for row, code in enumerate(zip(hotkeys.indices.to_pylist(), texts.indices.to_pylist(), strict=True)):
        last[code].append(row)
    tried: dict[Key, tuple[Tried, ...]] = {}
    for (hotkey, text), places in last.items():
        if hotkey is not None:
            losses = [(blocks[row], scores[row].as_py()) for row in places]
            key = hotkeys.dictionary[hotkey].as_py(), texts.dictionary[text].as_py()
            tried[key] = tuple(Tried(block, math.inf if loss is None else loss) for block, loss in losses)
    won = rows.filter(rows["won"]).select(["sync_block", "hotkey", "text", "uid"]).to_pylist()
    return History(tuple(Win(**row) for row in won), tried)
