"""Fetching a model by exact commit, with the checks of protocol 7 on the way, cheapest first.

What the hub says about a model (sizes, digests) is used to refuse it early; nothing is accepted before the bytes
themselves have been held against it. Where bytes and the hub's word disagree, the hub is at fault, except that a
file longer than listed is its owner's doing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sn37.checks.files import StaticReport, check_files, check_size
from sn37.competition import Constraints
from sn37.errors import ModelFault
from sn37.hub.cache import Cache, Lease
from sn37.hub.connection import Connection, RemoteFile
from sn37.submission import ModelId, is_model_file

__all__ = ["FetchedModel", "fetch_model"]

_SLACK_BYTES = 1 << 20
"""What a worker may write beside the model's files, its answer among it."""


@dataclass(frozen=True)
class FetchedModel:
    """A model on this machine, checked as far as can be without loading it.

    Its folder stays as long as this object is held; `close` (or leaving its `with`) lets it be evicted.
    """

    folder: Path
    """Its files, and nothing else."""
    content_hash: str
    """Protocol, section 2."""
    report: StaticReport
    """What the static checks found."""
    lease: Lease = field(repr=False, compare=False)
    """What keeps the folder."""

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return self.report.bytes

    @property
    def files(self) -> tuple[str, ...]:
        """Their paths, sorted."""
        return self.report.files

    def close(self) -> None:
        """The model is no longer needed."""
        self.lease.close()

    def __enter__(self) -> FetchedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fetch_model(
    hub: Connection, cache: Cache, model: ModelId, hotkey: str, constraints: Constraints, *, private_too: bool
) -> FetchedModel:
    """See `sn37.hub.Hub.fetch_model`."""
    if model.commit is None:
        raise ModelFault(f"the commitment of {model.repo} names no commit")
    if model.hash is None:
        raise ModelFault(f"the commitment of {model.repo} carries no hash")
    with hub.faults_of(model.repo, model.commit):
        listed = hub.files(model.repo, "model", model.commit, private_too=private_too)
        files = [file for file in listed if is_model_file(file.path)]
        check_size({file.path: file.size for file in files}, constraints)
        check_files([file.path for file in listed])
        content = cache.known(f"{model.repo}@{model.commit}")
        lease = cache.find(content) if content else None
        if content is None or lease is None:
            return _download(hub, cache, files, model, hotkey, constraints)
        try:
            report = hub.call(
                "check",
                StaticReport,
                folder=lease.folder,
                content=content,
                model=model,
                hotkey=hotkey,
                constraints=constraints,
            )
        except BaseException:
            lease.close()
            raise
        return FetchedModel(lease.folder, content, report, lease)


def _download(
    hub: Connection, cache: Cache, files: list[RemoteFile], model: ModelId, hotkey: str, constraints: Constraints
) -> FetchedModel:
    name = f"{model.repo}@{model.commit}"
    total, largest = sum(file.size for file in files), max(file.size for file in files)
    with cache.incoming(total) as folder:
        # What is here under another name needs no weights; should it be gone by then, they are fetched after all.
        for cached in (cache.contents(), []):
            content, digests, report = hub.call(
                "fetch_model",
                tuple[str, dict[str, str], StaticReport],
                size_bytes=total,
                max_file_bytes=largest + _SLACK_BYTES,
                repo=model.repo,
                files=files,
                folder=folder,
                cached=cached,
                model=model,
                hotkey=hotkey,
                constraints=constraints,
            )
            lease = cache.find(content)
            if lease is not None:
                cache.name(name, content)
            elif content not in cached:
                lease = cache.adopt(name, folder, digests)
            if lease is not None:
                return FetchedModel(lease.folder, content, report, lease)
    raise AssertionError("the second time nothing is taken as cached")
