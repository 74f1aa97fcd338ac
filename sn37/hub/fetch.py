"""Fetching a model by exact commit, with the checks of protocol 7 on the way, cheapest first.

What the hub says about a model (sizes, digests, heads of the weights) is used to refuse it early;
nothing is accepted before the bytes themselves have been held against it. Where bytes and the hub's
word disagree, the hub is at fault, except that a file longer than listed is its owner's doing.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sn37.checks.files import (
    StaticReport,
    check_files,
    check_no_code,
    check_parameters,
    check_size,
    check_static,
    is_weights,
    joined_heads,
    loaded,
    read_config,
)
from sn37.checks.safetensors_head import Tensor, head_bytes, tensors
from sn37.competition import Constraints
from sn37.errors import HubFault, ModelFault
from sn37.hub.cache import Cache, Lease
from sn37.hub.repos import RemoteFile, RepoType, file_path, listing, opened
from sn37.hub.wire import Absent, TooLong, Wire
from sn37.submission import ModelId, content_hash, is_model_file

__all__ = ["FetchedModel", "fetch_model", "model_files", "save"]

_PARALLEL = 4
_FIRST_READ_BYTES = 64 << 10


@dataclass(frozen=True)
class FetchedModel:
    """A model on this machine, checked as far as can be without loading it.

    The folder stays as long as this object is held; `close` (or leaving its `with`) lets it be evicted.
    bytes: of all its files; report: what the static checks found.
    """

    folder: Path
    content_hash: str
    bytes: int
    files: tuple[str, ...]
    report: StaticReport
    lease: Lease = field(repr=False, compare=False)

    def close(self) -> None:
        """The model is no longer needed."""
        self.lease.close()

    def __enter__(self) -> FetchedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fetch_model(
    wire: Wire, cache: Cache, model: ModelId, hotkey: str, constraints: Constraints, *, private_too: bool
) -> FetchedModel:
    """See `sn37.hub.Hub.fetch_model`."""
    if model.commit is None:
        raise ModelFault(f"the commitment of {model.repo} names no commit")
    if model.hash is None:
        raise ModelFault(f"the commitment of {model.repo} carries no hash")
    name = f"{model.repo}@{model.commit}"
    try:
        files = _listed(wire, model.repo, model.commit, private_too)
        check_size({file.path: file.size for file in files if is_model_file(file.path)}, constraints)
        check_files([file.path for file in files])
        download = _Download(wire, cache, model, hotkey, constraints)
        lease, content = download.from_cache(name) or download([f for f in files if is_model_file(f.path)], name)
    except Absent as error:
        raise ModelFault(_absence(error, model.repo, model.commit)) from None
    try:
        report = check_static(lease.folder, constraints)
    except ModelFault:
        lease.close()
        raise
    return FetchedModel(lease.folder, content, report.bytes, report.files, report, lease)


def model_files(wire: Wire, repo: str, commit: str, *, private_too: bool) -> dict[str, int]:
    """Bytes of each of the model's files, as the hub lists them. Raises ModelFault."""
    try:
        files = _listed(wire, repo, commit, private_too)
    except Absent as error:
        raise ModelFault(_absence(error, repo, commit)) from None
    return {file.path: file.size for file in files if is_model_file(file.path)}


def _listed(wire: Wire, repo: str, commit: str, private_too: bool) -> list[RemoteFile]:
    opened(wire, repo, "model", commit, private_too=private_too)
    try:
        return listing(wire, repo, "model", commit)
    except OverflowError as error:
        raise ModelFault(f"{repo} holds {error}; a model has a few") from None


def _absence(error: Absent, repo: str, commit: str) -> str:
    if error.what == "repo":
        return f"the repo {repo} does not exist, or is not public ({error})"
    if error.what == "commit":
        return f"the repo {repo} has no commit {commit} ({error})"
    return f"a file of {repo}@{commit} is listed but cannot be had ({error})"


@dataclass(frozen=True)
class _Download:
    """One model on its way into the cache."""

    wire: Wire
    cache: Cache
    model: ModelId
    hotkey: str
    constraints: Constraints

    def from_cache(self, name: str) -> tuple[Lease, str] | None:
        """The model as fetched before under this name."""
        content = self.cache.known(name)
        lease = self.cache.find(content) if content else None
        if lease is None or content is None:
            return None
        try:
            check_no_code(lease.folder)
            self.check_hash(content)
        except ModelFault:
            lease.close()
            raise
        return lease, content

    def check_hash(self, content: str) -> None:
        expected = self.model.expected_hash(content, self.hotkey)
        if expected != self.model.hash:
            raise ModelFault(
                f"the files do not match the hash: they hash to {expected}, committed is {self.model.hash}"
            )

    def __call__(self, files: Sequence[RemoteFile], name: str) -> tuple[Lease, str]:
        """Small files first, then only the heads of the weights, then the weights."""
        late = [file for file in files if is_weights(file.path) and file.sha256 is not None]
        early = [file for file in files if file not in late]
        with self.cache.incoming(sum(file.size for file in files)) as folder:
            digests = self.save(early, folder)
            check_no_code(folder)
            heads = joined_heads(folder, {f.path: self.head(f) for f in files if loaded(f.path)})
            content = self.declared_hash(folder, digests, late)
            self.check_hash(content)
            read_config(folder, self.constraints)
            check_parameters(heads, self.constraints)
            lease = self.cache.find(content)
            if lease is not None:
                self.cache.name(name, content)
                return lease, content
            digests |= self.save(late, folder)
            return self.cache.adopt(name, folder, digests), content

    def save(self, files: Sequence[RemoteFile], folder: Path) -> dict[str, str]:
        return save(self.wire, self.model.repo, "model", str(self.model.commit), files, folder)

    def declared_hash(self, folder: Path, digests: Mapping[str, str], late: Sequence[RemoteFile]) -> str:
        """The content hash, with the hub's word for the files that are still to come."""
        known = {folder / path: digest for path, digest in digests.items()}
        for file in late:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            known[path] = b64encode(bytes.fromhex(str(file.sha256))).decode()
        return content_hash(folder, known)

    def head(self, file: RemoteFile) -> dict[str, Tensor]:
        """The tensors of a weight file, of which only the head is read."""
        where = file_path(self.model.repo, "model", str(self.model.commit), file.path)
        try:
            first = self.wire.read(where, 0, min(file.size, _FIRST_READ_BYTES)) if file.size else b""
            end = 8 + head_bytes(first, file.size)
            if end > len(first):
                first += self.wire.read(where, len(first), end)
            return tensors(first[8:end], file.size - end)
        except ValueError as error:
            raise ModelFault(f"{file.path} is no safetensors file: {error}") from None


def save(
    wire: Wire, repo: str, repo_type: RepoType, commit: str, files: Sequence[RemoteFile], folder: Path
) -> dict[str, str]:
    """Download files into `folder`, several at once; base64(SHA-256) of each by its path.

    Raises what the first file that failed raised: ModelFault, Absent, HubFault.
    """

    def one(file: RemoteFile) -> str | Exception:
        try:
            return _save_one(wire, file_path(repo, repo_type, commit, file.path), file, folder / file.path)
        except Exception as error:
            return error

    with ThreadPoolExecutor(_PARALLEL) as pool:
        results = list(pool.map(one, files))
    for result in results:
        if isinstance(result, Exception):
            raise result
    return {file.path: str(result) for file, result in zip(files, results, strict=True)}


def _save_one(wire: Wire, where: str, file: RemoteFile, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    # a body that came whole and yet wrong is asked for once more: a broken proxy must cost no miner anything
    for _ in range(2):
        sha256 = hashlib.sha256()
        blob = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
        with path.open("wb") as out:
            try:
                received = wire.download(where, _written_to(out.write, sha256.update, blob.update), file.size)
            except TooLong:
                raise ModelFault(f"{file.path} is longer than the {file.size} bytes it is listed with") from None
            out.flush()
            os.fsync(out.fileno())
        expected, got = (file.sha256, sha256) if file.sha256 is not None else (file.blob, blob)
        if received == file.size and got.hexdigest() == expected:
            return b64encode(sha256.digest()).decode()
    raise HubFault(f"the hub sent {where}, twice, with other content than it lists")


def _written_to(*targets: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def write(chunk: bytes) -> None:
        for target in targets:
            target(chunk)

    return write
