"""An embedded hub, datasets pushed to it, and readers of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedded_hub import api, connect, server, time

from sn37.data import PinnedDatasets, ReadLimits
from sn37.hub import Hub

__all__ = ["api", "connect", "server", "time"]

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


@pytest.fixture
def pinned(connect: Connect, tmp_path: Path, time: Any) -> Callable[..., PinnedDatasets]:
    def pinned(as_of: datetime | None = None, folder: str = "pages", **options: Any) -> PinnedDatasets:
        patience = {name: options.pop(name) for name in ("attempts", "timeout_s") if name in options}
        return PinnedDatasets(connect(**patience), as_of or time.now, tmp_path / folder, limits=ReadLimits(**options))

    return pinned
