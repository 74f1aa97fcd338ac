"""Private temporary folders, which a process that is killed leaves behind only until the next one begins.

Each is locked by the process that uses it: whatever folder nobody holds any more is removed when another is made.
Does not protect against other processes of the same user.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

__all__ = ["ScratchFolder"]

_PREFIX, _LOCK_FILE = "sn37-", ".sn37-lock"


class ScratchFolder:
    """A new folder that only this user may enter, removed by `close`, or when the process ends.

    >>> with ScratchFolder() as folder:
    ...     (folder / "draft.json").write_text("{}")
    2
    """

    def __init__(self) -> None:
        _remove_abandoned()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            lock = FileLock(self.path / _LOCK_FILE, thread_local=False)
            # It may be removed as an abandoned one between the creation of its lock file and the lock.
            with suppress(FileNotFoundError):
                lock.acquire()
                break
        self._finalizer = weakref.finalize(self, _remove, self.path, lock)

    def close(self) -> None:
        """Remove the folder."""
        self._finalizer()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def _remove_abandoned() -> None:
    for lock_file in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK_FILE}"):
        folder = lock_file.parent
        # A lock that is held raises Timeout, an OSError, as does a folder that somebody else has just removed.
        with suppress(OSError):
            if folder.lstat().st_uid == os.getuid():
                lock = FileLock(lock_file, blocking=False)
                lock.acquire()
                _remove(folder, lock)


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
