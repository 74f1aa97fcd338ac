"""What the hub says about a repo: whether it is open, its files at a commit, its history.

Every size, digest and name here is the hub's word; `sn37.hub.fetch` holds it against the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from sn37.errors import HubFault
from sn37.hub.wire import Absent, Wire

__all__ = ["RemoteFile", "RepoType", "commits", "file_path", "full_commit", "listing", "opened"]

RepoType = Literal["model", "dataset"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_MAX_FILES = {"model": 10_000, "dataset": 200_000}


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it.

    size: in bytes; sha256: hex, None for a file that git itself keeps, where `blob` is git's hash.
    """

    path: str
    size: int
    sha256: str | None
    blob: str


def full_commit(text: str) -> bool:
    """Whether the text is a full commit hash."""
    return bool(_COMMIT.fullmatch(text))


def repo_path(repo: str) -> str:
    """The repo's name, checked, so that it can stand in an address. Raises Absent."""
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise Absent("repo", f"{repo!r} is no name of a repo; expected namespace/name")
    return repo


def file_path(repo: str, repo_type: RepoType, commit: str, path: str) -> str:
    """Where a file's bytes are read from."""
    prefix = "" if repo_type == "model" else f"/{repo_type}s"
    return f"{prefix}/{repo_path(repo)}/resolve/{quote(commit, safe='')}/{quote(path)}"


def opened(wire: Wire, repo: str, repo_type: RepoType, commit: str, *, private_too: bool) -> None:
    """Check that the repo is there at that very commit, and open to everybody. Raises Absent.

    private_too: a repo that only this token may read will do.
    """
    path = f"/api/{repo_type}s/{repo_path(repo)}/revision/{quote(commit, safe='')}"
    data = wire.answer(path)
    if not isinstance(data, dict):
        raise HubFault(f"the hub answered {path} with no object")
    if data.get("sha") != commit:
        raise Absent("commit", f"{commit} names something else than a commit")
    if data.get("disabled"):
        raise Absent("repo", "the repo is disabled")
    if not private_too and (data.get("private") or data.get("gated")):
        raise Absent("repo", "the repo is private or gated")


def listing(wire: Wire, repo: str, repo_type: RepoType, commit: str) -> list[RemoteFile]:
    """The repo's files at the commit, sorted by path. Raises Absent, and OverflowError for too many."""
    path = f"/api/{repo_type}s/{repo_path(repo)}/tree/{quote(commit, safe='')}"
    files: dict[str, RemoteFile] = {}
    for page in wire.pages(path, {"recursive": "true", "expand": "false"}):
        for entry in page:
            if isinstance(entry, dict) and entry.get("type") == "file":
                file = _file(entry, path)
                files[file.path] = file
        if len(files) > _MAX_FILES[repo_type]:
            raise OverflowError(f"more than {_MAX_FILES[repo_type]} files")
    return [files[name] for name in sorted(files)]


def _file(entry: dict[str, Any], path: str) -> RemoteFile:
    lfs = entry.get("lfs") or {}
    name, size, sha256, blob = entry.get("path"), entry.get("size"), lfs.get("oid"), entry.get("oid")
    if not isinstance(name, str) or not isinstance(size, int) or size < 0 or not isinstance(blob, str):
        raise HubFault(f"the hub's listing {path} holds an entry without a path, size or oid")
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", str(sha256)):
        raise HubFault(f"the hub's listing {path} holds a malformed digest of {name!r}")
    return RemoteFile(name, size, sha256, blob)


def commits(wire: Wire, repo: str, repo_type: RepoType) -> Iterator[tuple[str, datetime]]:
    """(commit, time) of the repo's main branch, newest first, read no further than asked. Raises Absent."""
    path = f"/api/{repo_type}s/{repo_path(repo)}/commits/main"
    for page in wire.pages(path):
        for entry in page:
            try:
                when = datetime.fromisoformat(entry["date"])
                number = str(entry["id"])
            except (KeyError, TypeError, ValueError):
                raise HubFault(f"the hub's history {path} holds an entry without id or date") from None
            if not full_commit(number):
                raise HubFault(f"the hub's history {path} holds {number!r} for a commit")
            yield number, when if when.tzinfo else when.replace(tzinfo=UTC)
