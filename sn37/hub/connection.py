"""A hub, how patient to be with it, and jobs done with it, each by a worker process of its own.

The worker (`sn37.hub.jobs`) has the network, a deadline and a memory limit, and neither the user's files nor
environment; so neither a library's patience nor a hub's answer can hold up or swell the process that asks. Whose fault
a failure is, is decided here: a hub that fails on one submission is asked about other repos before it is believed to
be down.
"""

from __future__ import annotations

import atexit
import functools
import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from sn37.errors import HubFault, ModelFault, SubmissionFault
from sn37.workers.isolation import ForkServer, WorkerDied

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, ModelInfo

__all__ = ["Connection", "Refused", "RemoteFile", "RepoType", "listed"]

T = TypeVar("T")
RepoType = Literal["model", "dataset"]

_MEMORY_BYTES = 2 << 30
_MAX_FILES = 200_000
_LEAST_BYTES_PER_S = 2 << 20
"""A transfer that is slower on the whole is given up."""


class Refused(Exception):
    """The hub refused for good. Whose fault that is, the caller knows."""

    def __init__(self, what: Literal["repo", "commit", "file"], reason: str, certain: bool = True) -> None:
        super().__init__(reason)
        self.what = what
        self.reason = reason
        self.certain = certain
        """Whether the hub itself has spoken; else any server could have answered with that status."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it; its word is held against the bytes later."""

    path: str
    """In the repo, with slashes."""
    size: int
    """In bytes."""
    sha256: str | None
    """Of the content, in hex; None for a file that git itself keeps."""
    blob: str
    """Git's hash of the file, or of the pointer to it, in hex."""


def listed(info: ModelInfo | DatasetInfo) -> list[RemoteFile]:
    """The files that the library's answer lists, sorted by path. Raises HubFault."""
    found = []
    for entry in info.siblings or ():
        name, blob, size, sha256 = entry.rfilename, entry.blob_id, entry.size, None
        if entry.lfs is not None:
            size, sha256 = entry.lfs.size, entry.lfs.sha256
        # The library takes what the hub says without a look at its types.
        if not (isinstance(name, str) and isinstance(blob, str) and isinstance(size, int) and size >= 0) or (
            sha256 is not None and not (isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256))
        ):
            raise HubFault(f"the hub lists {name!r} of {info.id} without a size and a hash")
        # What is no text in UTF-8 has no such file on the hub either.
        found.append(RemoteFile(name.encode(errors="replace").decode(), size, sha256, blob))
    if len(found) > _MAX_FILES:
        raise HubFault(f"the hub lists {len(found)} files of {info.id}; at most {_MAX_FILES} are read")
    return sorted(found, key=lambda file: file.path)


@dataclass(frozen=True)
class Connection:
    """How to reach a hub."""

    endpoint: str
    """Its address, without a slash at the end."""
    token: str | None
    """Sent to this address only; None for none."""
    timeout_s: float
    """Of a single wait for the hub, and of an answer that is no file."""
    attempts: int
    """Tries without progress before a HubFault."""
    first_wait_s: float
    """The wait after the first failed try, doubled after each further one."""

    def call(
        self, job: str, answer: type[T], *, size_bytes: int = 0, max_file_bytes: int | None = None, **arguments: object
    ) -> T:
        """What the function of `sn37.hub.jobs` called `job` returns, checked to be an `answer`.

        size_bytes: of all it transfers, which gives its deadline; max_file_bytes: the largest file it may write.
        Raises Refused, the errors of the function, and HubFault when it takes too much time or memory.
        """
        from huggingface_hub.constants import is_offline_mode

        if is_offline_mode():
            raise HubFault(f"the hub {self.endpoint} cannot be asked: HF_HUB_OFFLINE is set; unset it")
        time_limit_s = max(2 * self.attempts * self.timeout_s, 5.0) + size_bytes / _LEAST_BYTES_PER_S
        payload = {"job": job, "connection": self, "time_limit_s": time_limit_s, "arguments": arguments}
        try:
            found = _server().call(
                "sn37.hub.jobs:run",
                to_jsonable_python(payload),
                time_limit_s=time_limit_s,
                memory_bytes=_MEMORY_BYTES,
                max_file_bytes=max_file_bytes,
            )
        except WorkerDied as error:
            if error.kind == "lost":
                raise
            about = arguments.get("repo", "its models")
            raise HubFault(f"asking the hub {self.endpoint} about {about} ({job}) failed: {error}") from error
        if "refused" in found:
            raise Refused(**found["refused"])
        checked: T = TypeAdapter(answer).validate_python(found["answer"])
        return checked

    def files(self, repo: str, repo_type: RepoType, commit: str, *, private_too: bool) -> list[RemoteFile]:
        """The repo's files at the commit, sorted by path; it must be open to everybody unless `private_too`."""
        return self.call(
            "files", list[RemoteFile], repo=repo, repo_type=repo_type, commit=commit, private_too=private_too
        )

    def read_file(self, repo: str, repo_type: RepoType, commit: str, name: str, max_bytes: int) -> bytes:
        """One small file; of one that is longer, one byte more than `max_bytes`."""
        content = self.call(
            "read_file", str, repo=repo, repo_type=repo_type, commit=commit, path=name, max_bytes=max_bytes
        )
        return b64decode(content)

    @contextmanager
    def faults_of(self, repo: str, commit: str) -> Iterator[None]:
        """Give what happens to one submission's repo its owner: its miner, the submission, or nobody.

        Raises ModelFault, SubmissionFault, HubFault.
        """
        try:
            yield
        except Refused as refused:
            if not refused.certain and not self.serves_others(repo, refused.what == "file"):
                raise HubFault(f"the hub {self.endpoint} refuses everything ({refused.reason})") from None
            raise ModelFault(_absence(refused, repo, commit)) from None
        except HubFault as fault:
            if self.serves_others(repo, True):
                raise SubmissionFault(f"{fault}; it serves other repos") from fault
            raise

    def serves_others(self, repo: str = "", a_file: bool = False) -> bool:
        """Whether the hub serves some other repo than this one just now, and, where asked, a file of it."""
        try:
            return replace(self, attempts=1).call("serves_others", bool, repo=repo, a_file=a_file)
        except (HubFault, Refused):
            return False


def _absence(refused: Refused, repo: str, commit: str) -> str:
    if refused.what == "repo":
        return f"the repo {repo} does not exist, or is not public ({refused.reason})"
    if refused.what == "commit":
        return f"the repo {repo} has no commit {commit} ({refused.reason})"
    return f"a file of {repo}@{commit} is listed but cannot be had ({refused.reason})"


@functools.cache
def _server() -> ForkServer:
    """The clean process that the workers of all connections are forked from."""
    server = ForkServer(("sn37.hub.jobs",), network="open")
    atexit.register(server.close)
    return server
