"""Bytes that never change, fetched once and kept on disk; a file of which ranges are read in this manner.

Each entry ends with its digest: one that was cut off or altered is fetched again. Knows nothing of what the bytes
mean, nor where they come from. Does not protect against somebody who may write to the folder and knows this form.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

from sn37.errors import DataFault
from sn37.files import write_bytes

__all__ = ["KeptFile", "kept", "trim"]

MAX_RANGE_BYTES = 64 << 20
"""The longest range read at once: no footer and no page of a sound file is longer."""

_DIGEST_BYTES = 32


def kept(path: Path, fetch: Callable[[], bytes]) -> bytes:
    """The bytes kept at `path`; fetched and kept where they are missing or damaged.

    Raises what `fetch` raises, and EvaluatorFault where the disk takes no more.
    """
    with contextlib.suppress(FileNotFoundError):
        stored = path.read_bytes()
        content, digest = stored[:-_DIGEST_BYTES], stored[-_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() == digest:
            os.utime(path)  # `trim` removes what was used longest ago
            return content
    content = fetch()
    write_bytes(path, content + hashlib.sha256(content).digest())
    return content


def trim(folder: Path, max_bytes: int) -> None:
    """Remove what was used longest ago until at most `max_bytes` are left in `folder`."""
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process trims as well
            if path.is_file():
                stat = path.stat()
                files.append((stat.st_mtime_ns, path, stat.st_size))
    excess = sum(size for _, _, size in files) - max_bytes
    for _, path, size in sorted(files):
        if excess <= 0:
            return
        path.unlink(missing_ok=True)
        excess -= size


class KeptFile(io.RawIOBase):
    """A file of `size` bytes that is read by ranges, as pyarrow reads it; each range is kept in `folder`.

    fetch: gives the bytes from start to end, exclusive. Raises DataFault for a range that is too long.
    """

    def __init__(self, folder: Path, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self._folder, self._size, self._fetch, self._position = folder, size, fetch, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._size - self._position, 0)
        length = left if size is None or size < 0 else min(size, left)
        if length > MAX_RANGE_BYTES:
            raise DataFault(f"a part of it has {length:,} bytes; at most {MAX_RANGE_BYTES:,} are read at once")
        start, end = self._position, self._position + length
        self._position = end
        return kept(self._folder / f"{start}-{end}", lambda: self._fetch(start, end)) if length else b""
