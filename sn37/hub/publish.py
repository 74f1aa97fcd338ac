"""Publishing, inside a worker: files into a repo, and making a repo public.

Every step can be run again: what is there already is left as it is. In what order a miner takes the steps is
`sn37.miner`'s to say.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetInfo, HfApi, ModelInfo
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from sn37.checks.files import carries_code
from sn37.errors import ConfigError, HubFault
from sn37.hub.connection import RemoteFile, RepoType, listed
from sn37.hub.session import PASSING, wait
from sn37.submission import file_digest, is_model_file

__all__ = ["make_public", "publish", "repo_info"]

T = TypeVar("T")


def repo_info(api: HfApi, repo: str, repo_type: RepoType, commit: str | None = None) -> ModelInfo | DatasetInfo:
    """What the hub lists of a repo, the sizes and hashes of its files too; None for its newest commit."""
    if repo_type == "model":
        return api.model_info(repo, revision=commit, files_metadata=True)
    return api.dataset_info(repo, revision=commit, files_metadata=True)


def publish(
    api: HfApi, *, repo: str, repo_type: RepoType, paths: Mapping[str, Path], private: bool, whole: bool
) -> str:
    """Commit files unless they are there already; the commit. Makes the repo where it is missing.

    paths: of the files here, by their path in the repo; whole: they are the model, so that other files of a model, and
    any that carry code, go. Raises ConfigError where the user can mend it.
    """

    def bring() -> str:
        info = repo_info(api, repo, repo_type)
        there = {file.path: file for file in listed(info)}
        stale = sorted(p for p in there if whole and p not in paths and (is_model_file(p) or carries_code(p)))
        if not stale and all(path in there and _same(there[path], file) for path, file in paths.items()):
            return str(info.sha)
        if private and not info.private:
            raise ConfigError(
                f"the repo {repo} is public already, so others could copy the files before you commit to them; "
                "choose a new repo"
            )
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationDelete(path, is_folder=False) for path in stale),
            *(CommitOperationAdd(path, file) for path, file in paths.items()),
        ]
        message = f"Publish {len(paths)} file{'s' if len(paths) > 1 else ''}"
        return api.create_commit(repo, operations, commit_message=message, repo_type=repo_type, revision="main").oid

    _patiently(repo, "create it", lambda: api.create_repo(repo, private=private, repo_type=repo_type, exist_ok=True))
    return _patiently(repo, "upload to it", bring)


def make_public(api: HfApi, *, repo: str, repo_type: RepoType) -> None:
    """Let everybody read the repo."""
    _patiently(repo, "make it public", lambda: api.update_repo_settings(repo, private=False, repo_type=repo_type))


def _patiently(repo: str, purpose: str, action: Callable[[], T]) -> T:
    """What the action gives; it is safe to do again after trouble. A refusal is the user's to mend."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return action()
        except HFValidationError as error:
            raise ConfigError(f"{repo!r} is no name of a repo: {error}") from None
        except HfHubHTTPError as error:
            status, headers = error.response.status_code, error.response.headers
            if status in (400, 401, 402, 403, 404, 409):
                reason = (error.server_message or str(error)).strip().splitlines()[0]
                raise ConfigError(
                    f"the hub does not let this token {purpose}: {repo} ({status}, {reason}); "
                    "check the repo's name and the token's rights"
                ) from None
            if status not in PASSING:
                raise HubFault(f"the hub answered {status} to {repo} ({purpose})") from error
            wait(f"{repo} ({purpose})", attempt, f"status {status}", headers)
        except httpx2.TransportError as error:
            wait(f"{repo} ({purpose})", attempt, f"{type(error).__name__}: {error}")


def _same(remote: RemoteFile, file: Path) -> bool:
    """Whether the repo holds these bytes already, by the hub's word."""
    size = file.stat().st_size
    if remote.size != size:
        return False
    if remote.sha256 is not None:
        return b64decode(file_digest(file)).hex() == remote.sha256
    return hashlib.sha1(b"blob %d\0" % size + file.read_bytes(), usedforsecurity=False).hexdigest() == remote.blob
