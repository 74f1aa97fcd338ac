"""The hub as the rest of the library uses it: publish, fetch, and read what is pinned in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from sn37.competition import Constraints
from sn37.errors import ConfigError, DataFault, ModelFault
from sn37.hub import fetch, publish
from sn37.hub.cache import Cache, Lease
from sn37.hub.fetch import FetchedModel
from sn37.hub.repos import RemoteFile, RepoType, commits, file_path, full_commit, listing, opened
from sn37.hub.wire import Absent, TooLong, Wire
from sn37.submission import ModelId

__all__ = ["Hub"]

_TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
_MAX_TOKENIZER_BYTES = 512 << 20


class Hub:
    """A Hugging Face hub.

    endpoint: None for huggingface_hub's own default; token: sent with every request, None for none
    (a token found on the machine is never used); cache: folder of fetched models and tokenizers;
    timeout_s: of each wait for the hub; attempts: tries without progress before a HubFault.

    Reading public things gives the same with and without a token: what only the token's owner may
    read is refused, unless asked for by name (`private_too`), so that validators never disagree.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        *,
        cache: Path,
        max_cache_bytes: int = 100 << 30,
        timeout_s: float = 30.0,
        attempts: int = 5,
        first_wait_s: float = 0.5,
    ) -> None:
        if endpoint is None:
            from huggingface_hub import constants

            endpoint = constants.ENDPOINT
        if not endpoint.startswith(("http://", "https://")):
            raise ConfigError(f"the hub's endpoint is {endpoint!r}; expected an address that starts with https://")
        if attempts < 1 or timeout_s <= 0:
            raise ConfigError(f"attempts and timeout_s are {attempts} and {timeout_s}; both are above 0")
        self.wire = Wire(endpoint.rstrip("/"), token, timeout_s, attempts, first_wait_s)
        self.cache = Cache(Path(cache), max_cache_bytes)
        self._tokenizers: dict[str, Lease] = {}

    @property
    def endpoint(self) -> str:
        """The hub's address, without a slash at the end."""
        return self.wire.endpoint

    def publish(self, folder: Path, repo: str, *, private: bool = True) -> str:
        """Upload the model in `folder` to the repo, making it where it is missing; the commit.

        Only the protocol's files at the top of the folder are uploaded; files of an earlier model
        are removed from the repo. Doing it again changes nothing and gives the same commit.
        Raises ConfigError (no token, no right, a public repo where a private one is asked for) and HubFault.
        """
        return publish.publish(self.wire, Path(folder), repo, private=private)

    def publish_file(
        self, repo: str, name: str, data: bytes, *, repo_type: RepoType = "model", private: bool = False
    ) -> str:
        """Put one file into a repo, made where it is missing; the commit. Raises as `publish` does."""
        return publish.publish_file(self.wire, repo, name, data, repo_type=repo_type, private=private)

    def make_public(self, repo: str, *, repo_type: RepoType = "model") -> None:
        """Let everybody read the repo. Raises ConfigError and HubFault."""
        publish.make_public(self.wire, repo, repo_type)

    def read_file(self, repo: str, commit: str, name: str, max_bytes: int, *, repo_type: RepoType = "model") -> bytes:
        """One small file at an exact commit. Raises ConfigError where it is missing or longer, and HubFault."""
        where = f"{name} of {repo}@{commit}"
        if not full_commit(commit):
            raise ConfigError(f"{repo}@{commit}: expected a full commit of 40 lower-case hexadecimal digits")
        parts: list[bytes] = []
        try:
            opened(self.wire, repo, repo_type, commit, private_too=False)
            self.wire.download(file_path(repo, repo_type, commit, name), parts.append, max_bytes)
        except Absent as error:
            raise ConfigError(f"{where} is not there, or not public ({error})") from None
        except TooLong:
            raise ConfigError(f"{where} is longer than {max_bytes} bytes") from None
        return b"".join(parts)

    def model_size(self, repo: str, commit: str, *, private_too: bool = False) -> Mapping[str, int]:
        """Bytes of each of the model's files by path, asked without downloading any. Raises ModelFault, HubFault."""
        return fetch.model_files(self.wire, repo, commit, private_too=private_too)

    def fetch_model(
        self, model: ModelId, hotkey: str, constraints: Constraints, *, private_too: bool = False
    ) -> FetchedModel:
        """The model as committed by `hotkey`, checked in the protocol's order (section 7) up to its architecture.

        private_too: for its owner, before it is public. Hold the result as long as its folder is
        used. Raises ModelFault with the first reason, HubFault when the hub does not answer, and
        EvaluatorFault where there is no room for it.
        """
        return fetch.fetch_model(self.wire, self.cache, model, hotkey, constraints, private_too=private_too)

    def fetch_tokenizer(self, spec: str, as_of: datetime | None = None) -> tuple[Path, str]:
        """(folder, commit) of a tokenizer `namespace/name`, or `namespace/name@commit`.

        Without a commit it is the newest one at or before `as_of` (the newest of all for None). The
        folder stays as long as this hub object. Raises DataFault, HubFault and EvaluatorFault.
        """
        repo, _, commit = spec.partition("@")
        if "@" in spec and not full_commit(commit):
            raise ConfigError(f"the tokenizer {spec!r}: expected a full commit of 40 hexadecimal digits after the @")
        try:
            commit = commit or self._newest(repo, "model", as_of)
            opened(self.wire, repo, "model", commit, private_too=False)
            files = [f for f in listing(self.wire, repo, "model", commit) if f.path in _TOKENIZER_FILES]
            lease = self._tokenizer(repo, commit, files)
        except (Absent, ModelFault, OverflowError) as error:
            raise DataFault(f"the tokenizer {spec} is not there, or not public ({error})") from None
        self._tokenizers[f"{repo}@{commit}"] = lease
        return lease.folder, commit

    def _tokenizer(self, repo: str, commit: str, files: Sequence[RemoteFile]) -> Lease:
        if not any(file.path.startswith("tokenizer") for file in files):
            raise DataFault(f"the repo {repo} at {commit} holds no tokenizer")
        size = sum(file.size for file in files)
        if size > _MAX_TOKENIZER_BYTES:
            raise DataFault(f"the tokenizer {repo} has {size} bytes; at most {_MAX_TOKENIZER_BYTES} are allowed")
        name = f"{repo}@{commit}.tokenizer"
        content = self.cache.known(name)
        lease = self.cache.find(content) if content else None
        if lease is not None:
            return lease
        with self.cache.incoming(size) as folder:
            return self.cache.adopt(name, folder, fetch.save(self.wire, repo, "model", commit, files, folder))

    def newest_commit(self, repo: str, repo_type: RepoType, as_of: datetime | None) -> str:
        """The repo's newest commit at or before `as_of` (the newest of all for None). Raises DataFault, HubFault."""
        try:
            return self._newest(repo, repo_type, as_of)
        except Absent as error:
            raise DataFault(f"the {repo_type} repo {repo} is not there, or not public ({error})") from None

    def _newest(self, repo: str, repo_type: RepoType, as_of: datetime | None) -> str:
        if as_of is not None and as_of.tzinfo is None:
            raise ValueError(f"as_of is {as_of}; expected a time with its time zone")
        for commit, when in commits(self.wire, repo, repo_type):
            if as_of is None or when <= as_of:
                return commit
        raise DataFault(f"the {repo_type} repo {repo} has no commit at or before {as_of}")
