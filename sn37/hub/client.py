"""The hub as the rest of the library uses it: publish, fetch, and read what is pinned in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from sn37.checks.files import check_files, is_weights, published_files
from sn37.competition import Constraints
from sn37.errors import ConfigError, DataFault, HubFault, ModelFault
from sn37.hub.cache import Cache, Lease
from sn37.hub.connection import Connection, Refused, RemoteFile, RepoType
from sn37.hub.fetch import FetchedModel, fetch_model
from sn37.scratch import ScratchFolder
from sn37.submission import MODEL_FILES, ModelId, is_full_commit, is_model_file

__all__ = ["Hub"]

_TOKENIZER_FILES = tuple(name for name in MODEL_FILES if not name.startswith(("model", "generation")))
_MAX_TOKENIZER_BYTES = 512 << 20
_ANSWER_BYTES = 1 << 20
"""What a worker may write beside the files it downloads."""


class Hub:
    """A Hugging Face hub.

    endpoint: None for huggingface_hub's own default; token: sent with every request to it, None for none
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
        self.connection = Connection(endpoint.rstrip("/"), token, timeout_s, attempts, first_wait_s)
        self.cache = Cache(Path(cache), max_cache_bytes)
        self._tokenizers: dict[str, Lease] = {}

    @property
    def endpoint(self) -> str:
        """The hub's address, without a slash at the end."""
        return self.connection.endpoint

    def publish(self, folder: Path, repo: str, *, private: bool = True) -> str:
        """Upload the model in `folder` to the repo, making it where it is missing; the commit.

        Only the protocol's files at the top of the folder are uploaded; files of an earlier model
        are removed from the repo. Doing it again changes nothing and gives the same commit.
        Raises ConfigError (no token, no right, a public repo where a private one is asked for) and HubFault.
        """
        paths = published_files(Path(folder))
        if "config.json" not in paths or not any(map(is_weights, paths)):
            raise ConfigError(f"{folder} holds no model: expected config.json and model.safetensors (or its shards)")
        return self._publish(repo, "model", paths, private=private, whole=True)

    def publish_file(
        self, repo: str, name: str, data: bytes, *, repo_type: RepoType = "model", private: bool = False
    ) -> str:
        """Put one file into a repo, made where it is missing; the commit. Raises as `publish` does."""
        with ScratchFolder() as folder:
            path = folder / "file"
            path.write_bytes(data)
            return self._publish(repo, repo_type, {name: path}, private=private, whole=False)

    def make_public(self, repo: str, *, repo_type: RepoType = "model") -> None:
        """Let everybody read the repo. Raises ConfigError and HubFault."""
        self._check_token(repo)
        self.connection.call("make_public", type(None), repo=repo, repo_type=repo_type)

    def _publish(self, repo: str, repo_type: RepoType, paths: Mapping[str, Path], *, private: bool, whole: bool) -> str:
        self._check_token(repo)
        return self.connection.call(
            "publish",
            str,
            size_bytes=sum(path.stat().st_size for path in paths.values()),
            repo=repo,
            repo_type=repo_type,
            paths={name: path.absolute() for name, path in paths.items()},
            private=private,
            whole=whole,
        )

    def _check_token(self, repo: str) -> None:
        if self.connection.token is None:
            raise ConfigError(f"publishing to {repo} needs a token of the hub {self.endpoint}; give one")

    def read_file(self, repo: str, commit: str, name: str, max_bytes: int, *, repo_type: RepoType = "model") -> bytes:
        """One small file at an exact commit. Raises ConfigError where it is missing or longer, and HubFault."""
        where = f"{name} of {repo}@{commit}"
        if not is_full_commit(commit):
            raise ConfigError(f"{repo}@{commit}: expected a full commit of 40 lower-case hexadecimal digits")
        try:
            listed = self.connection.files(repo, repo_type, commit, private_too=False)
            if name not in (file.path for file in listed):
                raise Refused("file", "no such file")
            data = self.connection.read_file(repo, repo_type, commit, name, max_bytes)
        except Refused as refused:
            raise ConfigError(f"{where} is not there, or not public ({refused.reason})") from None
        if len(data) > max_bytes:
            raise ConfigError(f"{where} is longer than {max_bytes} bytes")
        return data

    def model_size(self, repo: str, commit: str, *, private_too: bool = False) -> Mapping[str, int]:
        """Bytes of each of the model's files by path, asked without downloading any. Raises ModelFault, HubFault."""
        with self.connection.faults_of(repo, commit):
            files = self.connection.files(repo, "model", commit, private_too=private_too)
        return {file.path: file.size for file in files if is_model_file(file.path)}

    def fetch_model(
        self, model: ModelId, hotkey: str, constraints: Constraints, *, private_too: bool = False
    ) -> FetchedModel:
        """The model as committed by `hotkey`, checked in the protocol's order (section 7) up to its parameters.

        private_too: for its owner, before it is public. Hold the result as long as its folder is
        used. Raises ModelFault with the first reason, SubmissionFault where the hub fails on this repo only, HubFault
        where it serves nobody, and EvaluatorFault where there is no room.
        """
        return fetch_model(self.connection, self.cache, model, hotkey, constraints, private_too=private_too)

    def fetch_tokenizer(self, spec: str, as_of: datetime | None = None) -> tuple[Path, str]:
        """(folder, commit) of a tokenizer `namespace/name`, or `namespace/name@commit`.

        Without a commit it is the newest one at or before `as_of` (the newest of all for None). The
        folder stays as long as this hub object. Raises DataFault, HubFault and EvaluatorFault.
        """
        repo, _, commit = spec.partition("@")
        if "@" in spec and not is_full_commit(commit):
            raise ConfigError(f"the tokenizer {spec!r}: expected a full commit of 40 hexadecimal digits after the @")
        commit = commit or self.newest_commit(repo, "model", as_of)
        try:
            lease = self._tokenizer(repo, commit)
        except Refused as refused:
            raise DataFault(f"the tokenizer {spec} is not there, or not public ({refused.reason})") from None
        self._tokenizers[f"{repo}@{commit}"] = lease
        return lease.folder, commit

    def _tokenizer(self, repo: str, commit: str) -> Lease:
        listed = self.connection.files(repo, "model", commit, private_too=False)
        files = [file for file in listed if file.path in _TOKENIZER_FILES]
        if not any(file.path.startswith("tokenizer") for file in files):
            raise DataFault(f"the repo {repo} at {commit} holds no tokenizer")
        size = sum(file.size for file in files)
        if size > _MAX_TOKENIZER_BYTES:
            raise DataFault(f"the tokenizer {repo} has {size} bytes; at most {_MAX_TOKENIZER_BYTES} are allowed")
        return self._saved(f"{repo}@{commit}.tokenizer", repo, commit, files, _MAX_TOKENIZER_BYTES)

    def fetch_commit(self, repo: str, commit: str, *, max_bytes: int = 100 << 30) -> Lease:
        """A model's files at an exact commit, held against no commitment: for people, who know what they ask for.

        The folder stays while the lease is held. Raises ModelFault and HubFault.
        """
        with self.connection.faults_of(repo, commit):
            listed = self.connection.files(repo, "model", commit, private_too=True)
            check_files([file.path for file in listed])
            files = [file for file in listed if is_model_file(file.path)]
            if sum(file.size for file in files) > max_bytes:
                raise ModelFault(f"{repo}@{commit} has more than {max_bytes} bytes")
            return self._saved(f"{repo}@{commit}", repo, commit, files, max_bytes)

    def dataset_files(self, repo: str, commit: str) -> list[RemoteFile]:
        """A dataset's files at a commit, also where only the token may read it. Raises DataFault and HubFault."""
        try:
            return self.connection.files(repo, "dataset", commit, private_too=True)
        except Refused as refused:
            raise DataFault(f"the dataset {repo} is not there, or not public ({refused.reason})") from None

    def save_dataset_files(self, repo: str, commit: str, files: Sequence[RemoteFile], folder: Path) -> None:
        """Download files of a dataset, as listed at that commit, into a folder. Raises DataFault and HubFault."""
        try:
            self.connection.call(
                "save",
                dict[str, str],
                size_bytes=sum(file.size for file in files),
                max_file_bytes=max((file.size for file in files), default=0) + _ANSWER_BYTES,
                repo=repo,
                repo_type="dataset",
                commit=commit,
                files=files,
                folder=folder,
            )
        except Refused as refused:
            raise DataFault(f"the files of {repo}@{commit} cannot be had ({refused.reason})") from None
        except ModelFault as error:
            raise DataFault(str(error)) from None

    def _saved(self, name: str, repo: str, commit: str, files: list[RemoteFile], max_file_bytes: int) -> Lease:
        """The files in the cache under that name, fetched where they are not there yet."""
        content = self.cache.known(name)
        lease = self.cache.find(content) if content else None
        if lease is not None:
            return lease
        size = sum(file.size for file in files)
        with self.cache.incoming(size) as folder:
            digests = self.connection.call(
                "save",
                dict[str, str],
                size_bytes=size,
                max_file_bytes=max_file_bytes,
                repo=repo,
                commit=commit,
                files=files,
                folder=folder,
            )
            return self.cache.adopt(name, folder, digests)

    def newest_commit(self, repo: str, repo_type: RepoType, as_of: datetime | None) -> str:
        """The repo's newest commit at or before `as_of` (the newest of all for None). Raises DataFault, HubFault."""
        if as_of is not None and as_of.tzinfo is None:
            raise ValueError(f"as_of is {as_of}; expected a time with its time zone")
        kind: type[str | None] = str | None  # type: ignore[assignment]
        try:
            commit = self.connection.call("newest_commit", kind, repo=repo, repo_type=repo_type, as_of=as_of)
        except Refused as refused:
            raise DataFault(f"the {repo_type} repo {repo} is not there, or not public ({refused.reason})") from None
        if commit is None:
            raise DataFault(f"the {repo_type} repo {repo} has no commit at or before {as_of}")
        if not is_full_commit(commit):
            raise HubFault(f"the hub's history of {repo} holds {commit!r} for a commit")
        return commit
