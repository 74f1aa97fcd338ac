"""Datasets of the embedded hub: rows in memory, written as the files of a hub's repo, or read as they are."""

from __future__ import annotations

import io
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sn37.errors import DataFault

__all__ = ["Dataset", "InMemory", "Rows"]

Rows = Sequence[Mapping[str, object]]
"""Rows of a dataset: column -> value."""


@dataclass(frozen=True)
class Dataset:
    """A dataset of the hub."""

    repo: str
    """Its name, `owner/name`."""
    parts: Mapping[tuple[str, str], Rows]
    """(config, split) -> its rows."""
    file_rows: int = 300
    """Rows of one parquet file."""
    group_rows: int = 50
    """Rows of one of its row groups."""

    views: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(config, split) -> which files of other configs it consists of."""

    def write(self, folder: Path) -> Path:
        """Write it as a repo's files: a README that lists the configs, and parquet files."""
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        for (config, split), rows in self.parts.items():
            table = pa.Table.from_pylist([dict(row) for row in rows])
            (folder / config).mkdir(parents=True, exist_ok=True)
            files = max(1, -(-len(rows) // self.file_rows))
            for number in range(files):
                path = folder / config / f"{split}-{number:05d}-of-{files:05d}.parquet"
                part = table.slice(number * self.file_rows, self.file_rows)
                pq.write_table(part, path, row_group_size=self.group_rows, compression="zstd", write_page_index=True)
        (folder / "README.md").write_text(self._readme(), encoding="utf-8")
        return folder

    def publish(self, endpoint: str, token: str, *, private: bool = False) -> str:
        """Upload it to an embedded hub in one commit; the commit."""
        from huggingface_hub import CommitOperationAdd, HfApi

        client = HfApi(endpoint=endpoint, token=token)
        client.create_repo(self.repo, repo_type="dataset", private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder, _quiet():
            files = sorted(path for path in self.write(Path(folder)).rglob("*") if path.is_file())
            # open files, for paths would go through a storage that a hub on this machine does not have
            added = [CommitOperationAdd(str(p.relative_to(folder)), io.BytesIO(p.read_bytes())) for p in files]
            commit = client.create_commit(self.repo, added, commit_message="Publish the dataset", repo_type="dataset")
        return str(commit.oid)

    def _readme(self) -> str:
        paths = {part: f"{part[0]}/{part[1]}-*.parquet" for part in self.parts} | dict(self.views)
        lines = ["---", "license: mit", "configs:"]
        for config in dict.fromkeys(config for config, _ in paths):
            lines += [f"- config_name: {json.dumps(config)}", "  data_files:"]
            for (owner, split), path in paths.items():
                if owner == config:
                    lines += [f"  - split: {json.dumps(split)}", f"    path: {json.dumps(path)}"]
        return "\n".join([*lines, "---", "", f"# {self.repo}", "Generated; for tests and demonstrations.", ""])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without huggingface_hub's bars, and its warning that open files go the plain way: both are meant here."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with disable_progress_bars():
            yield
    finally:
        logger.setLevel(level)


class InMemory:
    """Datasets as a source asks for them, without a hub."""

    def __init__(self, datasets: Mapping[str, Dataset]) -> None:
        self._datasets = datasets

    def configs(self, repo: str) -> Sequence[str]:
        """The names of its configs, sorted."""
        return sorted({config for config, _ in self._datasets[repo].parts})

    def num_rows(self, repo: str, config: str, split: str) -> int:
        """How many rows a split has."""
        return len(self._rows(repo, config, split))

    def rows(
        self, repo: str, config: str, split: str, indices: Sequence[int], columns: Sequence[str]
    ) -> list[dict[str, object]]:
        """Some columns of some rows."""
        rows = self._rows(repo, config, split)
        return [{name: rows[index][name] for name in columns} for index in indices]

    def _rows(self, repo: str, config: str, split: str) -> Rows:
        try:
            return self._datasets[repo].parts[config, split]
        except KeyError:
            known = ", ".join(self._datasets)
            raise DataFault(f"the devnet has no {split} of {config} in {repo}; it has {known}") from None
