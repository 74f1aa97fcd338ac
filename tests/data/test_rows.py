"""Rows as pyarrow reads them, whatever wrote the file."""

from __future__ import annotations

import lzma
import random
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sn37.data import PinnedDatasets

CASES = Path(__file__).parents[3] / "shared" / "cases"
NAME = "data/train-00000-of-00001.parquet"
Pinned = Callable[..., PinnedDatasets]
Push = Callable[..., str]


def table(rows: int, seed: int = 1) -> pa.Table:
    draw = random.Random(seed)
    return pa.table(
        {
            "text": [draw.choice([None, "", "ab" * draw.randrange(200)]) for _ in range(rows)],
            "few": [draw.choice(["red", "green", "blue"]) for _ in range(rows)],
            "number": pa.array([draw.choice([None, draw.randrange(1 << 40)]) for _ in range(rows)], pa.int64()),
            "real": [draw.random() for _ in range(rows)],
            "flag": [draw.random() < 0.5 for _ in range(rows)],
            "words": [[str(draw.randrange(99)) for _ in range(draw.randrange(5))] or None for _ in range(rows)],
            "nested": [[[1] * draw.randrange(3) for _ in range(draw.randrange(3))] for _ in range(rows)],
            "inner": [draw.choice([None, {"a": None}, {"a": 3}]) for _ in range(rows)],
        }
    )


OPTIONS: dict[str, dict[str, Any]] = {
    "one group": {},
    "page index, many groups": {"write_page_index": True, "data_page_size": 1000, "row_group_size": 700},
    "pages of version 2": {"data_page_size": 2000, "data_page_version": "2.0"},
    "no dictionaries": {"data_page_size": 2000, "use_dictionary": False},
    "zstd": {"data_page_size": 2000, "compression": "zstd"},
    "uncompressed": {"row_group_size": 900, "compression": "none"},
    "deltas": {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}, "data_page_size": 2000},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_any_rows_are_what_pyarrow_reads(options: dict[str, Any], pinned: Pinned, push: Push) -> None:
    whole = table(3000)
    push({NAME: whole}, **options)
    rows = [0, 2999, *random.Random(2).sample(range(3000), 30)]
    assert pinned().rows("data/set", "default", "train", rows, whole.column_names) == whole.take(rows).to_pylist()


FOREIGN = {
    "parquet-mr 1.10.1": ("reports/20-parquet-mr-1.10-no-dictionary-offset/parquet-mr-1.10.1.parquet.xz", 31_999),
    "a malformed dictionary": ("data/nation.dict-malformed.parquet", 24),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_that_others_wrote_are_what_pyarrow_reads(name: str, pinned: Pinned, push: Push) -> None:
    path, last = CASES / FOREIGN[name][0], FOREIGN[name][1]
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    whole = pq.read_table(pa.BufferReader(data))
    assert whole.num_rows == last + 1
    push({NAME: data})
    rows = [0, last // 300, last // 4, last]
    expected = [
        {column: value if isinstance(value, int | float | str | list) else None for column, value in row.items()}
        for row in whole.take(rows).to_pylist()
    ]
    assert pinned().rows("data/set", "default", "train", rows, whole.column_names) == expected


def test_cells_that_json_does_not_have_come_as_text_or_not_at_all(pinned: Pinned, push: Push) -> None:
    cells = {
        "date": date(2026, 1, 2),
        "time": datetime(2026, 1, 2, 3, 4, 5),
        "price": Decimal("1.50"),
        "image": b"\xff\xd8",
        "infinite": float("inf"),
        "pairs": [{"key": "a", "value": float("nan")}],
    }
    push({NAME: pa.Table.from_pylist([cells])})
    (row,) = pinned().rows("data/set", "default", "train", [0], list(cells))
    assert row == {
        "date": "2026-01-02",
        "time": "2026-01-02 03:04:05",
        "price": "1.50",
        "image": None,
        "infinite": None,
        "pairs": [{"key": "a", "value": None}],
    }
