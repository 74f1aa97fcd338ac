"""What workers do with a hub, by huggingface_hub: `sn37.hub.connection` starts one for each job.

Everything a stranger decides the size of is opened here, where a deadline and a memory limit hold. Arguments and
answers travel as JSON; pydantic makes the arguments what the functions' signatures say.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx2
from huggingface_hub import HfApi, get_session, hf_hub_url
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
    paginate,
    validate_repo_id,
)
from pydantic import ConfigDict, validate_call
from pydantic_core import to_jsonable_python

from sn37.checks.files import StaticReport, check_contents, check_heads_size, check_static, is_weights
from sn37.competition import Constraints
from sn37.errors import EvaluatorFault, HubFault, ModelFault, Sn37Error, disk_fault, is_full
from sn37.hub.connection import Connection, Refused, RemoteFile, RepoType, listed
from sn37.hub.publish import make_public, publish, repo_info
from sn37.hub.session import open_session
from sn37.submission import ModelId, content_hash, file_digest
from sn37.workers.outcome import Message

__all__ = ["run"]

_PARALLEL = 4
_FIRST_READ_BYTES = 64 << 10
_MAX_MODEL_REPO_FILES = 10_000


def run(payload: Message, report: object) -> Message:
    """The worker's function: one job of `_JOBS`, answered or refused."""
    connection = Connection(**payload["connection"])
    open_session(connection, payload["time_limit_s"])
    api = HfApi(endpoint=connection.endpoint, token=connection.token or False, library_name="sn37")
    try:
        return {"answer": to_jsonable_python(_JOBS[payload["job"]](api, **payload["arguments"]))}
    except Exception as error:
        found = _owned(error, connection)
        if isinstance(found, Refused):
            return {"refused": found.__dict__}
        raise found from error


def _owned(error: BaseException, connection: Connection) -> Exception:
    """The error that gives a failure of the library its owner."""
    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    response = getattr(error, "response", None)
    if isinstance(error, Sn37Error | MemoryError | Refused):
        return error
    if isinstance(response, httpx2.Response):
        return _refusal(response, connection)
    if isinstance(error, HFValidationError):
        return Refused("repo", f"it is no name of a repo; expected namespace/name: {error}")
    if isinstance(error, OSError) and (is_full(error) or error.errno in (errno.EACCES, errno.EROFS, errno.EIO)):
        return disk_fault(error, error.filename or "what the hub sent")
    return HubFault(f"the hub {connection.endpoint} cannot be read: {type(error).__name__}: {str(error)[:300]}")


def _refusal(response: httpx2.Response, connection: Connection) -> Exception:
    """What a status of 400 or more stands for."""
    status, code, path = response.status_code, response.headers.get("X-Error-Code", ""), response.url.path
    message = response.headers.get("X-Error-Message") or response.reason_phrase
    if status == 401 and connection.token and "invalid credentials" in message.lower():
        return EvaluatorFault("the hub does not know the token it was given; give a valid one, or none")
    what: dict[str, Literal["repo", "commit", "file"]] = {"RevisionNotFound": "commit", "EntryNotFound": "file"}
    if code in what or code in ("RepoNotFound", "GatedRepo") or "is disabled" in message:
        return Refused(what.get(code, "repo"), message)
    if status in (401, 403, 404, 410, 451):
        return Refused("file" if "/resolve/" in path else "repo", f"status {status}, {message}", certain=False)
    return HubFault(f"the hub answered {response.url} with status {status} ({message})")


def files(api: HfApi, *, repo: str, repo_type: RepoType, commit: str, private_too: bool) -> list[RemoteFile]:
    """The repo's files at that very commit: their sizes and hashes before any byte of them."""
    info = repo_info(api, repo, repo_type, commit)
    if info.sha != commit:
        raise Refused("commit", f"{commit} names something else than a commit")
    if info.disabled:
        raise Refused("repo", "the repo is disabled")
    if not private_too and (info.private or info.gated):
        raise Refused("repo", "the repo is private or gated")
    if repo_type == "model" and (count := len(info.siblings or ())) > _MAX_MODEL_REPO_FILES:
        raise ModelFault(f"{repo} holds {count} files; a model has a few")
    return listed(info)


def newest_commit(api: HfApi, *, repo: str, repo_type: RepoType, as_of: datetime | None) -> str | None:
    """The newest commit of main at or before a time, None where there is none.

    `list_repo_commits` reads the whole history; this stops at the first commit that will do.
    """
    validate_repo_id(repo)
    if repo.count("/") != 1:
        raise Refused("repo", f"{repo!r} is no name of a repo; expected namespace/name")
    url = f"{api.endpoint}/api/{repo_type}s/{repo}/commits/main"
    for entry in paginate(url, params={}, headers=build_hf_headers(token=api.token, library_name="sn37")):
        when = datetime.fromisoformat(entry["date"])
        if as_of is None or when.replace(tzinfo=when.tzinfo or UTC) <= as_of:
            return str(entry["id"])
    return None


def serves_others(api: HfApi, *, repo: str, a_file: bool) -> bool:
    """Whether the hub answers for other repos than this one; with `a_file`, the bytes of one of their files too."""
    others = [info.id for info in api.list_models(limit=4) if info.id != repo]
    for other in others if a_file else ():
        try:
            info = api.model_info(other, files_metadata=True)
            with_bytes = [file for file in listed(info) if file.size]
            # The large files, which come from elsewhere than the small ones, where there are any.
            file = max(with_bytes, key=lambda file: file.sha256 is not None)
            first = _first_bytes(api, other, str(info.sha), file.path, _FIRST_READ_BYTES)
            return len(first) == min(file.size, _FIRST_READ_BYTES)
        except Exception:
            continue
    return not (others and a_file)


def read_file(api: HfApi, *, repo: str, repo_type: RepoType, commit: str, path: str, max_bytes: int) -> str:
    """One small file in base64, of one byte more than `max_bytes` at most."""
    return b64encode(_first_bytes(api, repo, commit, path, max_bytes + 1, repo_type)).decode()


def fetch_model(
    api: HfApi,
    *,
    repo: str,
    files: Sequence[RemoteFile],
    folder: Path,
    cached: Sequence[str],
    model: ModelId,
    hotkey: str,
    constraints: Constraints,
) -> tuple[str, dict[str, str], StaticReport]:
    """Download a model into a folder, checked in the protocol's order; its content hash, digests, and the report.

    Small files come first, then the heads of the weights: put into files with a hole for the rest they pass the
    same checks as the weights themselves, which come last. cached: content hashes of models that are here already,
    of which no weights are downloaded.
    """
    commit = str(model.commit)
    late = [file for file in files if is_weights(file.path) and file.sha256 is not None]
    digests = save(api, repo=repo, commit=commit, files=[file for file in files if file not in late], folder=folder)
    _save_heads(api, repo, commit, late, folder)
    promised = {file.path: b64encode(bytes.fromhex(str(file.sha256))).decode() for file in late}
    content = content_hash(folder, {folder / path: digest for path, digest in (digests | promised).items()})
    report = check(api, folder=folder, content=content, model=model, hotkey=hotkey, constraints=constraints)
    if content not in cached:
        for file in late:
            (folder / file.path).unlink()
        digests |= save(api, repo=repo, commit=commit, files=late, folder=folder)
        report = check(api, folder=folder, content=content, model=model, hotkey=hotkey, constraints=constraints)
    return content, digests, report


def check(
    _: HfApi, *, folder: Path, content: str, model: ModelId, hotkey: str, constraints: Constraints
) -> StaticReport:
    """What the static checks find in a folder whose content hash is known."""
    check_contents(folder)
    expected = model.expected_hash(content, hotkey)
    if expected != model.hash:
        raise ModelFault(f"the files do not match the hash: they hash to {expected}, committed is {model.hash}")
    return check_static(folder, constraints)


def save(
    api: HfApi, *, repo: str, commit: str, files: Sequence[RemoteFile], folder: Path, repo_type: RepoType = "model"
) -> dict[str, str]:
    """Download files of a repo, several at once; base64(SHA-256) of each by its path."""
    pool = ThreadPoolExecutor(_PARALLEL)
    try:
        digests = list(pool.map(lambda file: _save_one(api, repo, repo_type, commit, file, folder), files))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # the first failure ends it: the worker ends with it
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # where the library notes what it downloaded
    return {file.path: digest for file, digest in zip(files, digests, strict=True)}


def _save_one(api: HfApi, repo: str, repo_type: RepoType, commit: str, file: RemoteFile, folder: Path) -> str:
    path = folder / file.path
    # What came whole and yet wrong is asked for once more: a broken proxy must cost no miner anything.
    for force in (False, True):
        try:
            api.hf_hub_download(
                repo, file.path, repo_type=repo_type, revision=commit, local_dir=folder, force_download=force
            )
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
        if not path.exists() or path.stat().st_size > file.size:
            raise ModelFault(f"{file.path} is longer than the {file.size} bytes it is listed with")
        digest = file_digest(path)
        if path.stat().st_size == file.size and _is_listed(path, file, digest):
            with path.open("rb") as written:
                os.fsync(written.fileno())
            return digest
    raise HubFault(f"the hub sent {file.path} of {repo}, twice, with other content than it lists")


def _is_listed(path: Path, file: RemoteFile, digest: str) -> bool:
    if file.sha256 is not None:
        return b64decode(digest).hex() == file.sha256
    blob = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    blob.update(path.read_bytes())
    return blob.hexdigest() == file.blob


def _save_heads(api: HfApi, repo: str, commit: str, files: Sequence[RemoteFile], folder: Path) -> None:
    """Files of the right size, of which only the head of each is there."""
    total = 0
    for file in files:
        first, end = b"", 0
        if "/" not in file.path:  # those in folders are never loaded
            first = _first_bytes(api, repo, commit, file.path, min(file.size, _FIRST_READ_BYTES))
            end = min(8 + int.from_bytes(first[:8], "little"), file.size)
            total += end
            check_heads_size(total)
        if len(first) < end:
            first = _first_bytes(api, repo, commit, file.path, end)
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            out.write(first[:end])
            out.truncate(file.size)


def _first_bytes(api: HfApi, repo: str, commit: str, path: str, count: int, repo_type: RepoType = "model") -> bytes:
    """The first bytes of a file, fewer where it is shorter."""
    url = hf_hub_url(repo, path, repo_type=repo_type, revision=commit, endpoint=api.endpoint)
    headers = {**build_hf_headers(token=api.token, library_name="sn37"), "Range": f"bytes=0-{max(count, 1) - 1}"}
    response = get_session().get(url, headers=headers)
    if response.status_code == 416:  # of an empty file
        return b""
    hf_raise_for_status(response)
    return response.content[:count]


_JOBS: dict[str, Callable[..., object]] = {
    job.__name__: validate_call(config=ConfigDict(arbitrary_types_allowed=True))(job)
    for job in (check, fetch_model, files, make_public, newest_commit, publish, read_file, save, serves_others)
}
