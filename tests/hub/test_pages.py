"""Rows of datasets pinned in time: the right ones, few bytes, nothing twice, whatever fails in between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sn37.hub import Hub, PinnedDatasets

Connect = Callable[..., Hub]
Push = Callable[..., str]


@pytest.fixture
def push(api: Callable[[str], Any], tmp_path: Path) -> Push:
    """Puts files into a dataset repo; a table becomes a parquet file."""

    def push(files: dict[str, Any], repo: str = "data/set", private: bool = False, **options: Any) -> str:
        client = api(repo.split("/")[0])
        client.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        from huggingface_hub import CommitOperationAdd

        operations = []
        for name, content in files.items():
            if isinstance(content, pa.Table):
                pq.write_table(content, tmp_path / "pushed", **options)
                content = (tmp_path / "pushed").read_bytes()
            operations.append(CommitOperationAdd(name, content if isinstance(content, bytes) else content.encode()))
        commit = client.create_commit(repo, operations, commit_message="data", repo_type="dataset")
        return str(commit.oid)

    return push


def numbered(start: int, count: int) -> pa.Table:
    rows = range(start, start + count)
    messages = [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}] for i in rows]
    return pa.table({"id": list(rows), "text": [f"text {i}" for i in rows], "messages": messages})


@pytest.fixture
def pinned(connect: Connect, tmp_path: Path, time: Any) -> Callable[..., PinnedDatasets]:
    def pinned(as_of: datetime | None = None, folder: str = "pages", **options: Any) -> PinnedDatasets:
        return PinnedDatasets(connect(**options), as_of or time.now, tmp_path / folder)

    return pinned


def test_rows_come_in_the_order_asked_for_across_files(pinned: Callable[..., PinnedDatasets], push: Push) -> None:
    push({"data/train-00000-of-00002.parquet": numbered(0, 50), "data/train-00001-of-00002.parquet": numbered(50, 70)})
    data = pinned()
    assert data.configs("data/set") == ["default"]
    assert data.num_rows("data/set", "default", "train") == 120
    rows = data.rows("data/set", "default", "train", [119, 0, 49, 50, 0], ["text", "id", "messages"])
    assert [row["id"] for row in rows] == [119, 0, 49, 50, 0]
    assert rows[0] == numbered(119, 1).select(["text", "id", "messages"]).to_pylist()[0]
