"""Publishing: a model into a private repo, a single file, and making a repo public.

Every step can be run again: what is there already is left as it is. Uploads go through
huggingface_hub; in what order a miner takes the steps is `sn37.miner`'s to say.
"""

from __future__ import annotations

import hashlib
import io
import logging
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sn37.checks.files import carries_code
from sn37.errors import ConfigError, HubFault
from sn37.hub.repos import RemoteFile, RepoType, listing
from sn37.hub.wire import Absent, Wire
from sn37.submission import file_digest, is_model_file

__all__ = ["make_public", "publish", "publish_file"]

T = TypeVar("T")


def publish(wire: Wire, folder: Path, repo: str, *, private: bool) -> str:
    """See `sn37.hub.Hub.publish`."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and is_model_file(path.name))
    if not any(path.suffix == ".safetensors" for path in paths) or not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} holds no model: expected config.json and model.safetensors (or its shards)")
    return _Upload(wire, repo, "model")({path.name: path for path in paths}, private=private, whole=True)


def publish_file(wire: Wire, repo: str, name: str, data: bytes, *, repo_type: RepoType, private: bool) -> str:
    """See `sn37.hub.Hub.publish_file`."""
    return _Upload(wire, repo, repo_type)({name: data}, private=private, whole=False)


def make_public(wire: Wire, repo: str, repo_type: RepoType) -> None:
    """See `sn37.hub.Hub.make_public`."""
    upload = _Upload(wire, repo, repo_type)
    upload.ask(lambda: upload.api.update_repo_settings(repo, private=False, repo_type=repo_type), "make it public")


class _Upload:
    """Changes to one repo, with the user's token."""

    def __init__(self, wire: Wire, repo: str, repo_type: RepoType) -> None:
        from huggingface_hub import HfApi, get_session

        if wire.token is None:
            raise ConfigError(f"publishing to {repo} needs a token of the hub {wire.endpoint}; give one")
        self.wire, self.repo, self.repo_type = wire, repo, repo_type
        self.api = HfApi(endpoint=wire.endpoint, token=wire.token, library_name="sn37")
        session = get_session()
        if session.timeout.read is None:
            # huggingface_hub waits without end for an answer to a write, unless its session is told otherwise
            session.timeout = type(session.timeout)(max(wire.timeout_s, 120.0))

    def __call__(self, files: dict[str, Path | bytes], *, private: bool, whole: bool) -> str:
        """Commit the files, unless they are there already; the commit.

        whole: the files are the model, so that other files of a model, and any that carry code, go.
        """
        self.ask(
            lambda: self.api.create_repo(self.repo, private=private, repo_type=self.repo_type, exist_ok=True),
            "create it",
        )
        return self.ask(lambda: self._bring(files, private, whole), "upload to it")

    def _bring(self, files: dict[str, Path | bytes], private: bool, whole: bool) -> str:
        info: Any = self.api.repo_info(self.repo, repo_type=self.repo_type)
        there = {file.path: file for file in self._listed(str(info.sha))}
        stale = sorted(p for p in there if whole and p not in files and (is_model_file(p) or carries_code(p)))
        if not stale and all(path in there and _same(there[path], file) for path, file in files.items()):
            return str(info.sha)
        if private and not info.private:
            raise ConfigError(
                f"the repo {self.repo} is public already, so others could copy the files before you commit to them; "
                "choose a new repo"
            )
        return self._commit(files, stale)

    def _listed(self, commit: str) -> list[RemoteFile]:
        try:
            return listing(self.wire, self.repo, self.repo_type, commit)
        except Absent as error:
            raise HubFault(f"the hub lost {self.repo}, which it just had ({error})") from None

    def _commit(self, files: dict[str, Path | bytes], stale: list[str]) -> str:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        with ExitStack() as stack:
            operations: list[Any] = [CommitOperationDelete(path, is_folder=False) for path in stale]
            for path, file in files.items():
                operations.append(CommitOperationAdd(path, stack.enter_context(_readable(file, self.wire.endpoint))))
            message = f"Publish {len(files)} file{'s' if len(files) > 1 else ''}"
            stack.enter_context(_without_advice())
            commit = self.api.create_commit(
                self.repo, operations, commit_message=message, repo_type=self.repo_type, revision="main"
            )
        return str(commit.oid)

    def ask(self, action: Callable[[], T], purpose: str) -> T:
        """Do it under the wire's patience; a refusal is the user's to mend."""
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        try:
            return self.wire.retried(action, f"{self.repo} ({purpose})")
        except HFValidationError as error:
            raise ConfigError(f"{self.repo!r} is no name of a repo: {error}") from None
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in (400, 401, 402, 403, 404, 409):
                reason = (error.server_message or str(error)).strip().splitlines()[0]
                raise ConfigError(
                    f"the hub does not let this token {purpose}: {self.repo} ({status}, {reason}); "
                    "check the repo's name and the token's rights"
                ) from None
            raise HubFault(f"the hub answered {status} to {self.repo} ({purpose})") from error


@contextmanager
def _readable(file: Path | bytes, endpoint: str) -> Iterator[Any]:
    """The file as huggingface_hub takes it.

    Paths and bytes go through xet storage, which a hub without https does not have; open files do not.
    """
    if urlsplit(endpoint).scheme == "https":
        yield str(file) if isinstance(file, Path) else file
    elif isinstance(file, bytes):
        yield io.BytesIO(file)
    else:
        with file.open("rb") as stream:
            yield stream


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without the library's warning that open files do not go through xet: here they are not meant to."""
    log = logging.getLogger("huggingface_hub._commit_api")

    def about_xet(record: logging.LogRecord) -> bool:
        return "Xet" not in record.msg

    log.addFilter(about_xet)
    try:
        yield
    finally:
        log.removeFilter(about_xet)


def _same(remote: RemoteFile, file: Path | bytes) -> bool:
    """Whether the repo holds these bytes already, by the hub's word."""
    size = len(file) if isinstance(file, bytes) else file.stat().st_size
    if remote.size != size:
        return False
    if remote.sha256 is not None:
        digest = hashlib.sha256(file).digest() if isinstance(file, bytes) else b64decode(file_digest(file))
        return digest.hex() == remote.sha256
    data = file if isinstance(file, bytes) else file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % size + data, usedforsecurity=False).hexdigest() == remote.blob
