"""Where the embedded hub keeps things: content-addressed blobs, commits, branches, on plain disk.

Knows nothing of HTTP or users. Every file is written aside and renamed, so a kill at any moment
leaves the last whole state. One process at a time serves a folder. Not meant for hostile users.

    objects/ab/abcd...                 a blob, named by its SHA-256
    repos/models/ns/name/repo.json     {"private": bool, "created": ISO time}
    repos/models/ns/name/refs/main     the branch's commit
    repos/models/ns/name/commits/HASH.json
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from sn37.errors import ConfigError

__all__ = ["REPO_TYPES", "Commit", "Conflict", "File", "Repo", "Storage", "pointer"]

REPO_TYPES = ("models", "datasets", "spaces")

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_OBJECT = re.compile(r"[0-9a-f]{64}")


class Conflict(Exception):
    """A commit whose parent is no longer the branch's newest commit."""


@dataclass(frozen=True)
class File:
    """One file of a commit."""

    size: int
    """In bytes."""
    sha256: str
    """The name of its blob."""
    oid: str
    """Git's blob hash; of the pointer, for an LFS file."""
    lfs: bool
    """Whether git keeps a pointer in its place."""


@dataclass(frozen=True)
class Commit:
    """One commit: the whole listing of its files, so that no history is needed to read it."""

    hash: str
    """Its name."""
    parent: str | None
    """The commit before it."""
    date: str
    """When, as ISO 8601 in UTC."""
    author: str
    """The user who made it."""
    title: str
    """The first line of its message."""
    message: str
    """The rest of it."""
    files: Mapping[str, File]
    """Path -> file."""


@dataclass(frozen=True)
class Repo:
    """What names a repo."""

    type: str
    """One of REPO_TYPES."""
    namespace: str
    """Its owner."""
    name: str
    """Its name there."""

    def __post_init__(self) -> None:
        for part in (self.namespace, self.name):
            if not _PART.fullmatch(part) or ".." in part:
                raise ValueError(f"{part!r} is no part of a repo name")
        if self.type not in REPO_TYPES:
            raise ValueError(f"{self.type!r} is no type of repo; expected one of {', '.join(REPO_TYPES)}")

    @property
    def id(self) -> str:
        return f"{self.namespace}/{self.name}"


class Storage:
    """The hub's folder. clock: gives the time of a commit (aware; UTC is stored)."""

    def __init__(self, root: Path, clock: Callable[[], datetime]) -> None:
        self.root = root
        self._clock = clock
        self._lock = threading.RLock()
        self._commits: dict[Path, Commit] = {}
        root.mkdir(parents=True, exist_ok=True)
        self._folder_lock = FileLock(root / ".lock", blocking=False, thread_local=False)
        try:
            self._folder_lock.acquire()
        except Timeout:
            raise ConfigError(f"the hub folder {root} is already served by another process; stop that one") from None
        shutil.rmtree(root / "incoming", ignore_errors=True)
        (root / "incoming").mkdir()

    def close(self) -> None:
        """Let another process serve the folder; safe to call twice."""
        self._folder_lock.release()

    def forget(self) -> None:
        """Read everything from disk again: for who changed it there."""
        self._commits.clear()

    def repos(self) -> Iterator[Repo]:
        """Every repo, sorted."""
        for path in sorted(self.root.glob("repos/*/*/*/repo.json")):
            yield Repo(*path.parts[-4:-1])

    def exists(self, repo: Repo) -> bool:
        return (self._path(repo) / "repo.json").is_file()

    def create(self, repo: Repo, private: bool) -> bool:
        """Make the repo, with an empty first commit. False where it exists already."""
        with self._lock:
            if self.exists(repo):
                return False
            self._write_commit(repo, "main", None, "system", "initial commit", "", {})
            self._write_json(self._path(repo) / "repo.json", {"private": private, "created": self._now()})
            return True

    def delete(self, repo: Repo) -> None:
        with self._lock:
            gone = self.root / "incoming" / uuid.uuid4().hex
            self._path(repo).rename(gone)
            shutil.rmtree(gone)
            self._commits = {k: v for k, v in self._commits.items() if not k.is_relative_to(self._path(repo))}

    def private(self, repo: Repo) -> bool:
        return bool(self._settings(repo)["private"])

    def created(self, repo: Repo) -> str:
        return str(self._settings(repo)["created"])

    def set_private(self, repo: Repo, private: bool) -> None:
        with self._lock:
            self._write_json(self._path(repo) / "repo.json", {**self._settings(repo), "private": private})

    def branches(self, repo: Repo) -> dict[str, str]:
        """Branch name -> newest commit."""
        folder = self._path(repo) / "refs"
        return {path.name: path.read_text() for path in sorted(folder.iterdir())}

    def set_branch(self, repo: Repo, branch: str, commit: str) -> None:
        if not _PART.fullmatch(branch):
            raise ValueError(f"{branch!r} is no name of a branch")
        self._write(self._path(repo) / "refs" / branch, commit.encode())

    def resolve(self, repo: Repo, revision: str) -> Commit | None:
        """The commit a branch or a full commit hash stands for. A branch's name comes first, as in git."""
        if not _PART.fullmatch(revision):
            return None
        branch = self._path(repo) / "refs" / revision
        if branch.is_file():
            revision = branch.read_text()
        return self._read_commit(repo, revision) if _COMMIT.fullmatch(revision) else None

    def history(self, repo: Repo, revision: str) -> Iterator[Commit]:
        """The commits behind a revision, newest first."""
        commit = self.resolve(repo, revision)
        while commit is not None:
            yield commit
            commit = self._read_commit(repo, commit.parent) if commit.parent else None

    def commit(
        self,
        repo: Repo,
        branch: str,
        author: str,
        title: str,
        message: str,
        change: Callable[[dict[str, File]], None],
        parent: str | None = None,
    ) -> Commit:
        """Append a commit to a branch. change: edits the listing in place.

        parent: what the newest commit must be, None for any. Raises Conflict, and LookupError where
        there is no such branch.
        """
        with self._lock:
            newest = self.resolve(repo, branch)
            if newest is None:
                raise LookupError(branch)
            if parent is not None and parent != newest.hash:
                raise Conflict(f"the newest commit is {newest.hash}, not {parent}")
            files = dict(newest.files)
            change(files)
            return self._write_commit(repo, branch, newest.hash, author, title, message, files)

    def blob(self, sha256: str) -> Path:
        """Where the blob lies, whether or not it is there."""
        if not _OBJECT.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is no SHA-256")
        return self.root / "objects" / sha256[:2] / sha256

    def add_bytes(self, data: bytes) -> File:
        """Store a regular (not LFS) file."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.blob(sha256).is_file():
            self._write(self.blob(sha256), data)
        return File(len(data), sha256, _git_oid(data), lfs=False)

    def add_blob(self, path: Path, sha256: str) -> None:
        """Move a finished upload in. The caller has checked its hash."""
        target = self.blob(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)

    def lfs_file(self, sha256: str) -> File | None:
        """An LFS file over a stored blob; None where the blob is missing."""
        path = self.blob(sha256)
        if not path.is_file():
            return None
        size = path.stat().st_size
        return File(size, sha256, _git_oid(pointer(sha256, size)), lfs=True)

    def incoming(self) -> Path:
        """A fresh path to write an upload to."""
        return self.root / "incoming" / uuid.uuid4().hex

    def _path(self, repo: Repo) -> Path:
        return self.root / "repos" / repo.type / repo.namespace / repo.name

    def _settings(self, repo: Repo) -> dict[str, object]:
        data: dict[str, object] = json.loads((self._path(repo) / "repo.json").read_text())
        return data

    def _now(self) -> str:
        return self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + "000Z"

    def _write_commit(
        self, repo: Repo, branch: str, parent: str | None, author: str, title: str, message: str, files: dict[str, File]
    ) -> Commit:
        content = {
            "parent": parent,
            "date": self._now(),
            "author": author,
            "title": title,
            "message": message,
            "files": {path: asdict(files[path]) for path in sorted(files)},
        }
        # the repo's name is part of the hash: two repos never share a commit
        text = json.dumps([repo.type, repo.id, content], sort_keys=True)
        number = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._write_json(self._path(repo) / "commits" / f"{number}.json", content)
        self.set_branch(repo, branch, number)
        commit = self._read_commit(repo, number)
        assert commit is not None
        return commit

    def _read_commit(self, repo: Repo, number: str) -> Commit | None:
        path = self._path(repo) / "commits" / f"{number}.json"
        if path not in self._commits:
            if not path.is_file():
                return None
            content = json.loads(path.read_text())
            files = {name: File(**file) for name, file in content.pop("files").items()}
            self._commits[path] = Commit(hash=number, files=files, **content)
        return self._commits[path]

    def _write_json(self, path: Path, data: object) -> None:
        self._write(path, json.dumps(data, indent=1).encode())

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.incoming()
        aside.write_bytes(data)
        aside.replace(path)


def pointer(sha256: str, size: int) -> bytes:
    """The text git keeps in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
