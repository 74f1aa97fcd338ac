"""A file of a hub dataset at one commit, as pyarrow reads files: byte ranges, each fetched once and kept on disk.

Runs in a worker. Retries, rate limits and redirects are huggingface_hub's; here is what it leaves open: an answer
may be no longer than the range asked for nor slower than a floor, no token is ever sent, and every error has an owner.
huggingface_hub's own `HfFileSystem` would read an answer of any length into memory and keep nothing. Does not protect
against answers whose heads never end: the worker's deadline does.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sn37.data.cache import kept
from sn37.errors import DataFault, HubFault, Sn37Error

__all__ = ["RemoteFile", "Repo", "faults"]

MAX_RANGE_BYTES = 256 << 20
"""The longest range read at once: no footer and no page of a sound file is longer."""

_PASSING_STATUSES = (408, 425, 429, *range(500, 600))
_TIMEOUT_S = 10.0
_GRACE_S = 60.0
_MIN_BYTES_PER_S = 16_384
"""A body that is slower than this, after `_GRACE_S`, counts as no answer."""


@dataclass(frozen=True)
class Repo:
    """A dataset repo at one commit, and where what is read of it is kept."""

    endpoint: str
    """The hub's address."""
    name: str
    """`namespace/name`."""
    commit: str
    """The full commit."""
    folder: str
    """A folder for this repo and commit alone."""
    first_wait_s: float
    """The wait after a first failed try, doubled after each further one."""
    part: str = ""
    """The config and split that are read, for messages."""

    def __str__(self) -> str:
        return f"the dataset {self.name}" + (f" ({self.part})" if self.part else "")


class RemoteFile(io.RawIOBase):
    """A file of `size` bytes, as its hub lists it. Reading raises DataFault and HubFault."""

    def __init__(self, repo: Repo, path: str, size: int) -> None:
        from huggingface_hub import hf_hub_url

        self._what = f"the file {path} of {repo}"
        self._url = hf_hub_url(repo.name, path, repo_type="dataset", revision=repo.commit, endpoint=repo.endpoint)
        self._folder = Path(repo.folder) / hashlib.sha256(path.encode()).hexdigest()
        self._size, self._position, self._first_wait_s = size, 0, repo.first_wait_s

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
            raise DataFault(f"{self._what} has a part of {length:,} bytes; at most {MAX_RANGE_BYTES:,} are read")
        start, end = self._position, self._position + length
        self._position = end
        return kept(self._folder / f"{start}-{end}", lambda: self._fetch(start, end)) if length else b""

    def _fetch(self, start: int, end: int) -> bytes:
        import httpx2
        from huggingface_hub.utils import build_hf_headers, http_stream_backoff  # type: ignore[attr-defined]

        # identity: a range is counted in the bytes of the file
        headers = {**build_hf_headers(token=False), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        body, began = bytearray(), time.monotonic()
        with http_stream_backoff(
            "GET",
            self._url,
            headers=headers,
            timeout=_TIMEOUT_S,
            base_wait_time=self._first_wait_s,
            retry_on_status_codes=_PASSING_STATUSES,
        ) as response:
            if response.status_code >= 300:
                raise _refusal(response.status_code, self._what)
            try:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > end - start:
                        break
                    if time.monotonic() - began > _GRACE_S + len(body) / _MIN_BYTES_PER_S:
                        raise HubFault(f"the hub sent only {len(body):,} bytes of {self._what} in {_GRACE_S:.0f} s")
            except httpx2.HTTPError as error:
                raise HubFault(f"the hub sent {len(body):,} bytes of {self._what} and stopped: {error}") from error
        if len(body) != end - start:
            sent = "more" if len(body) > end - start else f"{len(body):,}"
            raise HubFault(f"the hub sent {sent} bytes of {self._what} where {end - start:,} were asked for")
        return bytes(body)


def _refusal(status: int, what: str) -> Sn37Error:
    if status in (401, 403, 404, 410, 416, 451):
        return DataFault(f"{what} cannot be had: the hub answers with status {status}")
    return HubFault(f"the hub answered with status {status} for {what}")


@contextmanager
def faults(repo: Repo, what: str) -> Iterator[None]:
    """Give every error while `what` of a dataset is read its owner: the hub's silence is nobody's, the rest is data."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except Sn37Error:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403, 404, 410, 451):
            raise DataFault(f"{repo} is not there, or not public (status {status} for {what})") from None
        raise HubFault(f"the hub {repo.endpoint} answers with status {status} for {what} of {repo}") from error
    except httpx2.HTTPError as error:
        reason = f"{type(error).__name__} {error}".strip()
        raise HubFault(f"the hub {repo.endpoint} did not give {what} of {repo}: {reason}") from error
