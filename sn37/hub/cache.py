"""Fetched models on disk, by their content hash, within a limit.

An entry appears whole or not at all, and is never changed. Who uses one holds a lease (a lock of the
operating system, gone with its process): leased entries are never evicted, others go in the order
of their last use. On reuse a file that has the same inode, size and times as when it was hashed is
taken as unchanged; anything else is hashed again, and thrown away where it differs. Several
processes may share the folder. huggingface_hub's own cache is keyed by repo and commit, knows no leases and does not
notice a changed file.

    models/KEY/files/...            the model
    models/KEY/manifest.json        its digests; the file's own time is that of the last use
    incoming/ID/                    a download under way; removed once its process is gone
    names/REPO@COMMIT               the content hash of what was fetched under that name
    locks/                          never removed
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
import weakref
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sn37.errors import EvaluatorFault, disk_faults
from sn37.files import read_json, write_json, write_text
from sn37.submission import content_hash, file_digest

__all__ = ["Cache", "Lease"]


class Lease:
    """The right to use an entry: while it is held, the entry stays. Given back by `close`, or with the object."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._finalizer = weakref.finalize(self, os.close, lock)

    def close(self) -> None:
        """Give it back; safe to call twice."""
        self._finalizer()


class Cache:
    """The cache in `folder`, of at most `max_bytes`, downloads under way included."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        with disk_faults(folder):
            for name in ("models", "incoming", "names", "locks"):
                (folder / name).mkdir(parents=True, exist_ok=True)

    def known(self, name: str) -> str | None:
        """The content hash fetched under this name (`repo@commit`) before."""
        path = self._name(name)
        return path.read_text() if path.is_file() else None

    def name(self, name: str, content: str) -> None:
        """Remember what was fetched under `name`."""
        write_text(self._name(name), content)

    def contents(self) -> list[str]:
        """The content hashes of all entries."""
        return [b64encode(bytes.fromhex(entry.name)).decode() for entry in self._entries()]

    def find(self, content: str) -> Lease | None:
        """The entry with that content hash, verified and leased; None where there is none that is sound."""
        entry = self._entry(content)
        lock = os.open(self.folder / "locks" / entry.name, os.O_RDWR | os.O_CREAT, 0o600)
        lease = Lease(entry / "files", lock)
        fcntl.flock(lock, fcntl.LOCK_SH)  # filelock has no shared lock that ends with its process
        if _is_sound(entry, content):
            os.utime(entry / "manifest.json")
            return lease
        lease.close()
        return None

    def adopt(self, name: str, folder: Path, digests: Mapping[str, str]) -> Lease:
        """Make a finished download an entry, known as `name`, and lease it.

        folder: inside an `incoming` one; digests: path -> base64(SHA-256) of every file in it.
        """
        with disk_faults(self.folder):
            content = content_hash(folder, {folder / path: digest for path, digest in digests.items()})
            for path in digests:
                (folder / path).chmod(0o444)
            aside = folder.parent / "entry"
            aside.mkdir()
            folder.replace(aside / "files")
            _write_manifest(aside, digests)
            while (lease := self.find(content)) is None:
                entry = self._entry(content)
                if not self._drop(entry):
                    raise EvaluatorFault(f"{entry} was changed while it is in use; stop what uses it, and remove it")
                with contextlib.suppress(OSError):  # where another process was quicker, its entry is as good
                    aside.rename(entry)
            self.name(name, content)
            return lease

    @contextmanager
    def incoming(self, needed_bytes: int) -> Iterator[Path]:
        """An empty folder for a download of `needed_bytes`, for which room is made; gone afterwards."""
        with disk_faults(self.folder):
            folder = self.folder / "incoming" / uuid.uuid4().hex
            held = FileLock(folder / "lock", thread_local=False)
            with FileLock(self.folder / "locks" / "room"):
                self._sweep()
                self._make_room(needed_bytes)
                (folder / "files").mkdir(parents=True)
                held.acquire()
                (folder / "bytes").write_text(str(needed_bytes))
            try:
                yield folder / "files"
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                held.release()

    def _sweep(self) -> None:
        """Remove downloads whose process is gone, and names of what was evicted."""
        for folder in (self.folder / "incoming").iterdir():
            with contextlib.suppress(Timeout, FileNotFoundError), FileLock(folder / "lock", timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        entries = set(self.contents())
        for path in (self.folder / "names").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.read_text() not in entries:
                    path.unlink()

    def _make_room(self, needed: int) -> None:
        """Remove the entries used longest ago until there is room in the limit and on the disk."""
        if needed > self.max_bytes:
            raise EvaluatorFault(f"a model of {needed} bytes cannot fit into a cache of {self.max_bytes}; enlarge it")
        coming = sum(int(path.read_text()) for path in (self.folder / "incoming").glob("*/bytes"))
        by_last_use = iter(sorted(self._entries(), key=lambda entry: (_last_use(entry), entry.name)))
        while True:
            used = coming + sum(_size(entry) for entry in self._entries())
            fits, free = used + needed <= self.max_bytes, shutil.disk_usage(self.folder).free >= needed
            if fits and free:
                return
            if (entry := next(by_last_use, None)) is not None:
                self._drop(entry)
            elif fits:
                raise EvaluatorFault(f"the disk of {self.folder} is full: {needed} bytes are needed; free some space")
            else:
                raise EvaluatorFault(
                    f"the cache {self.folder} has no room for {needed} bytes: all of its {used} bytes are in use; "
                    f"the limit is {self.max_bytes}, enlarge it"
                )

    def _drop(self, entry: Path) -> bool:
        """Remove an entry unless it is leased; whether it is gone."""
        lock = FileLock(self.folder / "locks" / entry.name, timeout=0)
        try:
            with lock:
                gone = self.folder / "incoming" / uuid.uuid4().hex
                with contextlib.suppress(FileNotFoundError):
                    entry.rename(gone)  # first, so that a kill in between leaves nothing half there
                    shutil.rmtree(gone, ignore_errors=True)
        except Timeout:
            return False
        return True

    def _name(self, name: str) -> Path:
        return self.folder / "names" / name.replace("/", "--")

    def _entry(self, content: str) -> Path:
        return self.folder / "models" / b64decode(content).hex()

    def _entries(self) -> list[Path]:
        return sorted((self.folder / "models").iterdir())


def _is_sound(entry: Path, content: str) -> bool:
    """Whether the entry is whole and unchanged since it was hashed."""
    root = entry / "files"
    try:
        match read_json(entry / "manifest.json"):
            case {"files": dict(files)}:
                pass
            case _:
                return False
        here = {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()}
        if here != set(files) or any((root / path).is_symlink() for path in files):
            return False
        if all(files[path][1:] == _signature(root / path) for path in files):
            return True
        digests = {path: file_digest(root / path) for path in files}
        if content_hash(root, {root / path: digest for path, digest in digests.items()}) != content:
            return False
    except (EvaluatorFault, OSError, LookupError, TypeError):
        return False
    _write_manifest(entry, digests)
    return True


def _write_manifest(entry: Path, digests: Mapping[str, str]) -> None:
    files = {path: [digest, *_signature(entry / "files" / path)] for path, digest in digests.items()}
    write_json(entry / "manifest.json", {"files": files})


def _signature(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _size(entry: Path) -> int:
    """Bytes of the entry's files; another process may remove it at this very moment."""
    with contextlib.suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in (entry / "files").rglob("*") if path.is_file())
    return 0


def _last_use(entry: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return (entry / "manifest.json").stat().st_mtime_ns
    return 0
