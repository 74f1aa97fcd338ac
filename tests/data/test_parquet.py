"""Some rows of a parquet file, against pyarrow reading all of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sn37.data import parquet
from sn37.data.parquet import Footer, footer_rows, read_footer, read_leaf


class Bytes:
    """A file in memory that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read_bytes = data, 0

    def __call__(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        for start, end in spans:
            if not 0 <= start < end <= len(self.data):
                raise ValueError("outside")
        self.read_bytes += sum(end - start for start, end in spans)
        return [self.data[start:end] for start, end in spans]


def written(table: pa.Table, path: Path, **options: Any) -> Bytes:
    pq.write_table(table, path, **options)
    return Bytes(path.read_bytes())


def leaf_rows(read: Bytes, footer: Footer, name: str, rows: list[int]) -> list[Any]:
    (leaf,) = [leaf for leaf in footer.leaves if leaf.path[0] == name]
    values = {}
    for row in rows:
        group = footer.group_of(row)
        values[row] = read_leaf(read, footer, group, leaf, [row - footer.starts[group]])[0]
    return [values[row] for row in rows]


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
    "whole chunks": {},
    "page index": {"write_page_index": True, "data_page_size": 2000},
    "page index, many groups": {"write_page_index": True, "data_page_size": 1000, "row_group_size": 700},
    "pages of version 2": {"write_page_index": True, "data_page_size": 2000, "data_page_version": "2.0"},
    "no dictionaries": {"write_page_index": True, "data_page_size": 2000, "use_dictionary": False},
    "zstd": {"write_page_index": True, "data_page_size": 2000, "compression": "zstd"},
    "uncompressed": {"row_group_size": 900, "compression": "none"},
    "deltas": {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}, "data_page_size": 2000},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("walked", [False, True], ids=["", "walked"])
def test_any_rows_are_what_pyarrow_reads(
    tmp_path: Path, options: dict[str, Any], walked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if walked:
        monkeypatch.setattr(parquet, "_WALKED_FROM_BYTES", 0)
    whole = table(3000)
    read = written(whole, tmp_path / "file.parquet", **options)
    assert footer_rows(read, len(read.data)) == 3000
    footer = read_footer(read, len(read.data))
    assert footer.columns == whole.column_names
    rows = [0, 2999, *random.Random(2).sample(range(3000), 12)]
    for name in whole.column_names:
        expected = whole.column(name).take(rows).to_pylist()
        assert leaf_rows(read, footer, name, rows) == expected, name
