"""Fetched models on disk, by their content hash, within a limit.

An entry appears whole or not at all, and is never changed. Who uses one holds a lease (a lock of the
operating system, gone with its process): leased entries are never evicted, others go in the order
of their last use. On reuse a file that has the same inode, size and times as when it was hashed is
taken as unchanged; anything else is hashed again, and thrown away where it differs. Several
processes may share the folder.

    models/KEY/files/...            the model
    models/KEY/manifest.json        its digests; the file's own time is that of the last use
    incoming/ID/                    a download under way; removed once its process is gone
    names/REPO@COMMIT               the content hash of what was fetched under that name
    locks/                          never removed
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import uuid
import weakref
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sn37.errors import EvaluatorFault, disk_faults
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
        try:
            return (self.folder / "names" / name.replace("/", "--")).read_text()
        except FileNotFoundError:
            return None

    def find(self, content: str) -> Lease | None:
        """The entry with that content hash, verified and leased; None where there is none that is sound."""
        entry = self._entry(content)
        lock = self._lock(entry.name, fcntl.LOCK_SH)
        try:
            if self._sound(entry, content):
                os.utime(entry / "manifest.json")
                return Lease(entry / "files", lock)
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        return None

    def adopt(self, name: str, folder: Path, digests: Mapping[str, str]) -> Lease:
        """Make a finished download an entry, known as `name`, and lease it.

        folder: inside an `incoming` one; digests: path -> base64(SHA-256) of every file in it.
        """
        with disk_faults(self.folder):
            content = content_hash(folder, {folder / path: digest for path, digest in digests.items()})
            for path in digests:
                (folder / path).chmod(0o444)
            files = {path: [digest, *_signature(folder / path)] for path, digest in digests.items()}
            aside = folder.parent / "entry"
            aside.mkdir()
            folder.replace(aside / "files")
            _write(aside / "manifest.json", json.dumps({"content_hash": content, "files": files}))
            lease = self.find(content)
            while lease is None:
                self._replace(aside, self._entry(content))
                lease = self.find(content)
            self.name(name, content)
            return lease

    def name(self, name: str, content: str) -> None:
        """Remember what was fetched under `name`."""
        _write(self.folder / "names" / name.replace("/", "--"), content)

    def _replace(self, aside: Path, entry: Path) -> None:
        """Put `aside` in the place of an entry that is missing or no longer sound."""
        if not self._drop(entry):
            raise EvaluatorFault(f"{entry} was changed while it is in use; stop what uses it, and remove it")
        with contextlib.suppress(FileNotFoundError, OSError):
            # where another process was quicker, its entry is as good
            aside.rename(entry)

    @contextmanager
    def incoming(self, needed_bytes: int) -> Iterator[Path]:
        """An empty folder for a download of `needed_bytes`, for which room is made; gone afterwards."""
        with disk_faults(self.folder):
            folder = self.folder / "incoming" / uuid.uuid4().hex
            lock = self._lock("room", fcntl.LOCK_EX)
            try:
                self._sweep()
                self._make_room(needed_bytes)
                folder.mkdir()
                held = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(held, fcntl.LOCK_EX)
                _write(folder / "bytes", str(needed_bytes))
            finally:
                os.close(lock)
            (folder / "files").mkdir()
            try:
                yield folder / "files"
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(held)

    def used_bytes(self) -> int:
        """Bytes of all entries."""
        return sum(_entry_bytes(entry) for entry in self._entries())

    def _make_room(self, needed: int) -> None:
        if needed > self.max_bytes:
            raise EvaluatorFault(f"a model of {needed} bytes cannot fit into a cache of {self.max_bytes}; enlarge it")
        coming = sum(_number(path) for path in (self.folder / "incoming").glob("*/bytes"))
        stamped = sorted((_last_use(entry), entry.name, entry) for entry in self._entries())
        for _, _, entry in stamped:
            free = shutil.disk_usage(self.folder).free
            if self.used_bytes() + coming + needed <= self.max_bytes and free >= needed:
                return
            self._drop(entry)
        if self.used_bytes() + coming + needed > self.max_bytes:
            raise EvaluatorFault(
                f"the cache {self.folder} has no room for {needed} bytes: all of its "
                f"{self.used_bytes() + coming} bytes are in use; the limit is {self.max_bytes}, enlarge it"
            )
        if shutil.disk_usage(self.folder).free < needed:
            raise EvaluatorFault(f"the disk of {self.folder} is full: {needed} bytes are needed; free some space")

    def _sweep(self) -> None:
        """Remove downloads whose process is gone."""
        for folder in (self.folder / "incoming").iterdir():
            try:
                held = os.open(folder / "lock", os.O_RDWR)
            except OSError:
                # made under the lock of this sweep: one without a lock file was left by a kill
                shutil.rmtree(folder, ignore_errors=True)
                continue
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            os.close(held)

    def _drop(self, entry: Path) -> bool:
        """Remove an entry unless it is leased; whether it is gone."""
        try:
            lock = self._lock(entry.name, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            gone = self.folder / "incoming" / uuid.uuid4().hex
            with contextlib.suppress(FileNotFoundError):
                # renamed first: a kill in between leaves nothing half there
                entry.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
        finally:
            os.close(lock)
        return True

    def _sound(self, entry: Path, content: str) -> bool:
        """Whether the entry is whole and unchanged since it was hashed."""
        try:
            manifest = json.loads((entry / "manifest.json").read_text())
            files: dict[str, list[object]] = manifest["files"]
            here = {p.relative_to(entry / "files").as_posix() for p in (entry / "files").rglob("*") if not p.is_dir()}
            if here != set(files) or any((entry / "files" / path).is_symlink() for path in files):
                return False
            changed = [path for path in files if files[path][1:] != _signature(entry / "files" / path)]
            if not changed:
                return True
            digests = {path: file_digest(entry / "files" / path) for path in files}
        except (OSError, ValueError, KeyError, TypeError):
            return False
        root = entry / "files"
        if content_hash(root, {root / path: digest for path, digest in digests.items()}) != content:
            return False
        signed = {path: [digest, *_signature(root / path)] for path, digest in digests.items()}
        _write(entry / "manifest.json", json.dumps({"content_hash": content, "files": signed}))
        return True

    def _entry(self, content: str) -> Path:
        return self.folder / "models" / b64decode(content).hex()

    def _entries(self) -> list[Path]:
        return sorted((self.folder / "models").iterdir())

    def _lock(self, name: str, how: int) -> int:
        descriptor = os.open(self.folder / "locks" / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, how)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _signature(path: Path) -> list[object]:
    stat = path.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _entry_bytes(entry: Path) -> int:
    total = 0
    with contextlib.suppress(FileNotFoundError):
        # another process may remove it at this very moment
        for path in (entry / "files").rglob("*"):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _last_use(entry: Path) -> int:
    try:
        return (entry / "manifest.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    aside.write_text(text)
    aside.replace(path)
