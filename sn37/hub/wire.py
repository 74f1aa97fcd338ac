"""Asking the hub: one policy of time-outs, bounded retries and names for what went wrong.

Reads go through huggingface_hub's own session, with the token given here or none: a token that
lies about on the machine is never sent. Knows nothing of models or datasets.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sn37.errors import EvaluatorFault, HubFault, Sn37Error

__all__ = ["Absent", "TooLong", "Wire"]

T = TypeVar("T")

_MAX_ANSWER_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
_LONGEST_WAIT_S = 300.0
_LEAST_BYTES_PER_S = 16_384
"""A body that comes slower than this, after a first time-out, counts as no answer."""
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))


class Absent(Exception):
    """What was asked for is not there for this reader. Whose fault that is, the caller knows."""

    def __init__(self, what: Literal["repo", "commit", "file"], message: str) -> None:
        super().__init__(message)
        self.what = what


class TooLong(Exception):
    """A body ran past the bytes it was allowed."""


class _Passing(Exception):
    """Trouble that may be over at the next try. wait_s: how long the hub asks to wait."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Wire:
    """A hub, and how patient to be with it.

    token: sent with every request, None for none; timeout_s: of every single wait for the hub, not
    of a whole download; attempts: tries without progress before a HubFault; first_wait_s: the wait
    after the first failed try, doubled after each further one.
    """

    endpoint: str
    token: str | None
    timeout_s: float
    attempts: int
    first_wait_s: float = 0.5

    def answer(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """The JSON a path answers with. Raises Absent and HubFault."""
        return self._answer(self.endpoint + path, params)[0]

    def pages(self, path: str, params: Mapping[str, str] | None = None) -> Iterator[list[Any]]:
        """A listing, page by page, as far as the caller reads on. Raises Absent and HubFault."""
        url: str | None = self.endpoint + path
        seen: set[str] = set()
        while url is not None:
            if url in seen:
                raise HubFault(f"the hub's listing {path} goes round in a circle")
            seen.add(url)
            data, url = self._answer(url, params)
            params = None
            if not isinstance(data, list):
                raise HubFault(f"the hub answered {path} with no list")
            yield data

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes [start, end) of a file, exactly. Raises Absent and HubFault."""
        parts: list[bytes] = []
        self.download(path, parts.append, end - start, start=start, end=end)
        data = b"".join(parts)
        if len(data) != end - start:
            raise HubFault(f"the hub sent {len(data)} bytes of {path} where {end - start} were asked for")
        return data

    def download(
        self, path: str, write: Callable[[bytes], object], max_bytes: int, *, start: int = 0, end: int | None = None
    ) -> int:
        """Send the file's bytes from `start` (to `end`, exclusive) to `write`; how many there were.

        A cut connection is resumed where it broke. Raises TooLong as soon as there are more than
        `max_bytes`, Absent, and HubFault after `attempts` tries without progress.
        """
        done = 0
        tries = 0

        def one_try() -> None:
            nonlocal done, tries
            before = done
            try:
                with self._request(self.endpoint + path, {}, start + done, end) as (response, skip):
                    for chunk in self._body(response):
                        piece, skip = chunk[skip:], max(skip - len(chunk), 0)
                        if end is not None:
                            piece = piece[: end - start - done]
                        if done + len(piece) > max_bytes:
                            raise TooLong(path)
                        write(piece)
                        done += len(piece)
            finally:
                if done - before >= _CHUNK_BYTES:
                    tries = 0

        while True:
            tries += 1
            try:
                one_try()
                return done
            except _Passing as trouble:
                self._wait(trouble, tries, path)

    def retried(self, action: Callable[[], T], what: str) -> T:
        """Do something with huggingface_hub, under this policy. It must be safe to do again."""
        tries = 0
        while True:
            tries += 1
            try:
                return action()
            except Exception as error:
                passing = _as_passing(error)
                if passing is None:
                    raise
                self._wait(passing, tries, what)

    def _answer(self, url: str, params: Mapping[str, str] | None) -> tuple[Any, str | None]:
        def ask() -> tuple[Any, str | None]:
            with self._request(url, params or {}, 0, None) as (response, _):
                body = bytearray()
                for chunk in self._body(response):
                    body += chunk
                    if len(body) > _MAX_ANSWER_BYTES:
                        raise HubFault(f"the hub's answer to {url} is longer than {_MAX_ANSWER_BYTES} bytes")
                try:
                    data = json.loads(body)
                except (ValueError, RecursionError):
                    raise _Passing(f"the hub's answer to {url} is no JSON") from None
                return data, response.links.get("next", {}).get("url")

        tries = 0
        while True:
            tries += 1
            try:
                return ask()
            except _Passing as trouble:
                self._wait(trouble, tries, url)

    @contextmanager
    def _request(self, url: str, params: Mapping[str, str], start: int, end: int | None) -> Iterator[tuple[Any, int]]:
        """A response that succeeded, and how many of its first bytes lie before `start`."""
        import httpx2
        from huggingface_hub import get_session
        from huggingface_hub.errors import OfflineModeIsEnabled

        # identity: bytes as they are counted and hashed, and nothing that swells when it is unpacked
        headers = {"User-Agent": "sn37", "Accept-Encoding": "identity"}
        if self.token is not None and url.startswith(f"{self.endpoint}/"):
            headers["Authorization"] = f"Bearer {self.token}"
        ranged = start > 0 or end is not None
        if ranged:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            session = get_session()
            with session.stream("GET", url, params=params or None, headers=headers, timeout=self.timeout_s) as response:
                if response.status_code >= 300:
                    response.read()
                    raise _refusal(response, self.token is not None)
                skip = 0
                if ranged and response.status_code != 206:
                    skip = start
                elif ranged and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                    raise _Passing(f"the hub sent another range of {url} than asked for")
                yield response, skip
        except OfflineModeIsEnabled:
            raise HubFault(f"the hub {self.endpoint} cannot be asked: HF_HUB_OFFLINE is set; unset it") from None
        except httpx2.HTTPError as error:
            raise _Passing(f"{type(error).__name__}: {error or 'no answer'}") from error
        except RuntimeError as error:
            if isinstance(error, EvaluatorFault) or "closed" not in str(error):
                raise
            # huggingface_hub closes its shared session after a failed connection of another thread
            raise _Passing(str(error)) from error

    def _body(self, response: Any) -> Iterator[bytes]:
        began, received = time.monotonic(), 0
        for chunk in response.iter_raw(_CHUNK_BYTES):
            received += len(chunk)
            if time.monotonic() - began > self.timeout_s + received / _LEAST_BYTES_PER_S:
                raise _Passing(f"only {received} bytes came in {time.monotonic() - began:.0f} s")
            yield chunk

    def _wait(self, trouble: _Passing, tries: int, what: str) -> None:
        what = what.removeprefix(self.endpoint)
        if tries >= self.attempts:
            raise HubFault(f"the hub {self.endpoint} failed {tries} times on {what}: {trouble}") from trouble
        wait_s = self.first_wait_s * 2 ** (tries - 1) if trouble.wait_s is None else trouble.wait_s
        if wait_s > _LONGEST_WAIT_S:
            raise HubFault(f"the hub {self.endpoint} asks to wait {wait_s:.0f} s before {what}: {trouble}") from trouble
        time.sleep(wait_s)


def _refusal(response: Any, with_token: bool) -> Exception:
    """The exception that a status of 300 or more stands for."""
    status, headers = response.status_code, response.headers
    code, url = headers.get("X-Error-Code", ""), response.url
    message = headers.get("X-Error-Message") or response.reason_phrase
    if status in _PASSING:
        return _Passing(f"status {status}", _asked_wait_s(headers))
    if code == "RevisionNotFound":
        return Absent("commit", message)
    if code == "EntryNotFound":
        return Absent("file", message)
    if status == 401 and with_token and "invalid credentials" in message.lower():
        return EvaluatorFault("the hub does not know the token it was given; give a valid one, or none")
    # the hub answers 401 for a repo that is missing or private, so as not to tell which
    if code in ("RepoNotFound", "GatedRepo") or status == 401 or "is disabled" in message:
        return Absent("repo", message)
    return HubFault(f"the hub answered {url} with status {status} ({message})")


def _asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """How long the hub asks to wait: its Retry-After in seconds, or its rate limit's reset."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

    if re.fullmatch(r"\s*\d{1,9}\s*", headers.get("Retry-After", "")):
        return float(headers["Retry-After"])
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else None


def _as_passing(error: BaseException | None) -> _Passing | None:
    """The passing trouble behind an exception of huggingface_hub, None where it is something else."""
    import httpx2

    while error is not None and not isinstance(error, Sn37Error):
        response = getattr(error, "response", None)
        if response is not None:
            if response.status_code in _PASSING:
                return _Passing(f"status {response.status_code}", _asked_wait_s(response.headers))
            return None
        if isinstance(error, httpx2.TransportError):
            return _Passing(f"{type(error).__name__}: {error}")
        error = error.__cause__
    return None
