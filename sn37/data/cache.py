"""Bytes that never change, fetched once and kept on disk.

Each entry ends with its digest: one that was cut off or altered is fetched again. Knows nothing of what the
bytes mean. Does not protect against somebody who may write to the folder and knows this form.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from sn37.files import write_bytes

__all__ = ["kept", "trim"]

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
