"""Byte ranges of files that never change, read once and kept on disk.

A range lies under the file it is of, with a digest at its end: one that was cut off or altered is
read again. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["kept", "read_ranges", "trim"]

_DIGEST_BYTES = 32


def read_ranges(
    folder: Path, size: int, spans: Sequence[tuple[int, int]], fetch: Callable[[int, int], bytes]
) -> list[bytes]:
    """The spans [start, end) of a file of `size` bytes; only those not in `folder` are fetched.

    Neighbouring missing spans are fetched in one go. Raises ValueError for a span outside the file.
    """
    for start, end in spans:
        if not 0 <= start < end <= size:
            raise ValueError(f"it points at the bytes {start} to {end}, but has {size}")
    found: dict[tuple[int, int], bytes | None] = {(a, b): _kept(folder / f"{a}-{b}") for a, b in spans}
    missing = sorted(span for span in found if found[span] is None)
    while missing:
        run = [missing.pop(0)]
        while missing and missing[0][0] == run[-1][1]:
            run.append(missing.pop(0))
        data = fetch(run[0][0], run[-1][1])
        for start, end in run:
            part = data[start - run[0][0] : end - run[0][0]]
            keep(folder / f"{start}-{end}", part)
            found[start, end] = part
    return [piece for span in spans if (piece := found[span]) is not None]


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """The bytes kept at `path`, made and kept where they are missing or damaged."""
    found = _kept(path)
    if found is not None:
        return found
    data = make()
    keep(path, data)
    return data


def keep(path: Path, data: bytes) -> None:
    """Keep bytes at `path`; they appear whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    aside.write_bytes(data + hashlib.sha256(data).digest())
    aside.replace(path)


def _kept(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return content


def trim(folder: Path, max_bytes: int) -> None:
    """Remove what was used longest ago until at most `max_bytes` are left."""
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                stat = path.stat()
                files.append((stat.st_mtime_ns, str(path), stat.st_size))
    total = sum(size for _, _, size in files)
    for _, name, size in sorted(files):
        if total <= max_bytes:
            return
        Path(name).unlink(missing_ok=True)
        total -= size
