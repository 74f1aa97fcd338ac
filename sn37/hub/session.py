"""The HTTP client under huggingface_hub in a worker: what the library leaves open about tokens, sizes and time.

The library knows addresses, answers, redirects and how a cut download is resumed. This client sends the token to
the hub and to nobody else, whoever redirects or links elsewhere; ends every wait; reads an answer that is no file as
a whole, bounded in size and time; and tries again what may pass. Does not bound how long headers drip: the
worker's deadline does.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from huggingface_hub import constants, get_session, set_client_factory
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

from sn37.errors import HubFault
from sn37.hub.connection import Connection

__all__ = ["PASSING", "open_session", "wait"]

PASSING = frozenset((408, 425, 429, 500, 502, 503, 504, *range(520, 525)))
"""Statuses after which a request is sent again; 520 to 524 are Cloudflare's."""
_TRUSTED = httpx2.create_ssl_context()
"""Made once, before workers are forked: it takes as long as a whole request."""
_MAX_ANSWER_BYTES = 64 << 20
_MAX_ERROR_BYTES = 64 << 10
_OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")
_CHUNK_BYTES = 1 << 20
_LEAST_BYTES_PER_S = 128 << 10
"""A body that comes slower than this, after a first time-out, counts as no answer."""


def open_session(connection: Connection, time_limit_s: float) -> None:
    """Let huggingface_hub, in this process, talk to this hub in this manner, for so many seconds."""
    deadline = time.monotonic() + time_limit_s
    # Bytes are counted as they come and a cut download goes on where it broke, to the nearest MiB: Xet does neither.
    constants.HF_HUB_DISABLE_XET = True
    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK_BYTES
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    set_client_factory(lambda: _Client(connection, deadline))


def wait(what: str, attempt: int, trouble: str, headers: Mapping[str, str] | None = None) -> None:
    """Wait before `what` is tried again, as for any request. Raises HubFault after too many tries."""
    client = get_session()
    assert isinstance(client, _Client), "the session is opened first"
    client.wait(what, attempt, trouble, headers)


class _Client(httpx2.Client):
    """huggingface_hub sends every request with `send`, streamed or not."""

    def __init__(self, connection: Connection, deadline: float) -> None:
        super().__init__(verify=_TRUSTED, follow_redirects=True, event_hooks={"request": [self._prepare]})
        self.connection, self.deadline = connection, deadline
        self.origin = httpx2.URL(connection.endpoint).origin

    def _prepare(self, request: httpx2.Request) -> None:
        """Called for the request and for every redirect of it."""
        if request.url.origin != self.origin:
            request.headers.pop("Authorization", None)
        # Bytes as they are counted and hashed, and nothing that swells; what a proxy packs all the same is unpacked.
        request.headers["Accept-Encoding"] = "identity"
        request.extensions["timeout"] = httpx2.Timeout(self.connection.timeout_s).as_dict()

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """The answer, once its status says that it is one. Raises HubFault after too many tries."""
        attempt = 0
        while True:
            attempt += 1
            try:
                response = super().send(request, stream=True, **options)
                if response.status_code not in PASSING or request.method not in ("GET", "HEAD"):
                    return self._received(response, stream)
                response.close()
                self.wait(request.url.path, attempt, f"status {response.status_code}", response.headers)
            except httpx2.TransportError as error:
                if request.method not in ("GET", "HEAD"):
                    raise
                self.wait(request.url.path, attempt, f"{type(error).__name__}: {str(error) or 'no answer'}")

    def _received(self, response: httpx2.Response, stream: bool) -> httpx2.Response:
        """The answer, its body paced; one that is no file is read already, within its limit."""
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Paced(response.stream, self.connection.timeout_s)
        failed, asked = response.status_code >= 400, _range_bytes(response.request)
        if stream and not failed:
            return response
        body, useful = bytearray(), _MAX_ERROR_BYTES if failed else asked
        for chunk in response.iter_bytes():
            body += chunk
            if useful is not None and len(body) >= useful:
                break
            if len(body) > _MAX_ANSWER_BYTES:
                raise HubFault(f"the hub's answer to {response.url} is longer than {_MAX_ANSWER_BYTES} bytes")
        response.close()
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in _OF_THE_BODY]
        return httpx2.Response(
            response.status_code, headers=headers, content=bytes(body[:useful]), request=response.request
        )

    def wait(self, what: str, attempt: int, trouble: str, headers: Mapping[str, str] | None = None) -> None:
        """Wait before the next try, as long as the headers ask for. Raises HubFault where there is none."""
        hub = f"the hub {self.connection.endpoint}"
        if attempt >= self.connection.attempts:
            raise HubFault(f"{hub} failed {attempt} times on {what}: {trouble}")
        asked = None if headers is None else _asked_wait_s(headers)
        wait_s = self.connection.first_wait_s * 2 ** (attempt - 1) if asked is None else asked
        if time.monotonic() + wait_s > self.deadline:
            raise HubFault(f"{hub} asks to wait {wait_s:.0f} s before {what}: {trouble}")
        time.sleep(wait_s)


class _Paced(httpx2.SyncByteStream):
    """A body that comes fast enough."""

    def __init__(self, body: httpx2.SyncByteStream, timeout_s: float) -> None:
        self.body, self.timeout_s = body, timeout_s

    def __iter__(self) -> Iterator[bytes]:
        began, received = time.monotonic(), 0
        try:
            for chunk in self.body:
                yield chunk
                received += len(chunk)
                elapsed = time.monotonic() - began
                if elapsed > self.timeout_s + received / _LEAST_BYTES_PER_S:
                    raise httpx2.ReadTimeout(f"only {received} bytes came in {elapsed:.0f} s")
        except httpx2.ReadError as error:
            # Of what can end a body too soon, the library resumes this kind.
            raise httpx2.RemoteProtocolError(str(error) or "the connection was reset") from error

    def close(self) -> None:
        self.body.close()


def _range_bytes(request: httpx2.Request) -> int | None:
    """How many bytes a request for the first ones asks for: not every proxy keeps to it. None for any other."""
    asked = re.fullmatch(r"bytes=0-(\d+)", request.headers.get("Range", ""))
    return int(asked[1]) + 1 if asked else None


def _asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """How long the hub asks to wait: Retry-After in seconds or as a date, or its rate limit's reset."""
    asked = headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked[:9])
    try:
        date = parsedate_to_datetime(asked)
        return max((date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
    except ValueError:
        limit = parse_ratelimit_headers(headers)
        return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else None
