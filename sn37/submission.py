"""What a miner commits: the model's identity, the commitment text, the hashes.

Pure, but for reading the files it is asked to hash. It does not judge a model: see `sn37.hub`.
Protocol, section 2.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from sn37.html import table

__all__ = [
    "MAX_COMMITMENT_BYTES",
    "MODEL_FILES",
    "Commitment",
    "ModelId",
    "Submission",
    "Submissions",
    "content_hash",
    "file_digest",
    "is_full_commit",
    "is_model_file",
    "secure_hash",
]

MAX_COMMITMENT_BYTES = 128
"""The chain keeps one Raw field of at most this many bytes."""

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "chat_template.jinja",
)
"""The files a model consists of, as patterns of file names (protocol, section 2)."""

_MAX_REPO_CHARACTERS = 38
_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HASH = re.compile(r"[A-Za-z0-9+/]{43}=")
_ID = re.compile(r"[0-9]{1,2}")


@dataclass(frozen=True)
class ModelId:
    """A model at one commit of one hub repo, and what was promised about its content.

    hash: the secure hash (base64 of 32 bytes), or the plain content hash in the legacy form;
    competition_id: None in the legacy form, where the schedule's default competition holds.
    """

    namespace: str
    name: str
    commit: str | None
    hash: str | None
    competition_id: int | None

    def __post_init__(self) -> None:
        for part in (self.namespace, self.name):
            if not _REPO_PART.fullmatch(part) or "--" in part or ".." in part or part.endswith(".git"):
                raise ValueError(f"{part!r} is no part of a hub repo name")
        if len(self.repo) > _MAX_REPO_CHARACTERS:
            raise ValueError(f"{self.repo!r} is longer than {_MAX_REPO_CHARACTERS} characters")
        if self.commit is not None and not _COMMIT.fullmatch(self.commit):
            raise ValueError(f"{self.commit!r} is no full commit: expected 40 lower-case hexadecimal digits")
        if self.hash is not None and not _HASH.fullmatch(self.hash):
            raise ValueError(f"{self.hash!r} is no hash: expected base64 of 32 bytes")
        if self.competition_id is not None and not 0 <= self.competition_id <= 99:
            raise ValueError(f"competition id {self.competition_id} is not in 0..99")

    @property
    def repo(self) -> str:
        """The hub's name of the repo, `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def legacy(self) -> bool:
        """Whether `hash` is a plain content hash."""
        return self.competition_id is None

    def expected_hash(self, content: str, hotkey: str) -> str:
        """The hash this submission must carry when its files hash to `content`."""
        return content if self.legacy else secure_hash(content, hotkey)

    def to_text(self) -> str:
        """The commitment text. Raises ValueError above 128 bytes."""
        parts = [self.namespace, self.name, self.commit or "None", self.hash or "None"]
        if self.competition_id is not None:
            parts.append(str(self.competition_id))
        text = ":".join(parts)
        if len(text.encode()) > MAX_COMMITMENT_BYTES:
            raise ValueError(f"the commitment has {len(text.encode())} bytes; the chain takes {MAX_COMMITMENT_BYTES}")
        return text

    @classmethod
    def from_text(cls, text: str) -> ModelId:
        """Read a commitment. Raises ValueError, naming the part, on anything malformed."""
        if len(text.encode()) > MAX_COMMITMENT_BYTES:
            raise ValueError(f"malformed commitment: more than {MAX_COMMITMENT_BYTES} bytes")
        parts = text.split(":")
        if len(parts) not in (4, 5):
            raise ValueError(f"malformed commitment: {len(parts)} parts instead of 5 (or 4, the legacy form)")
        competition = None
        if len(parts) == 5:
            if not _ID.fullmatch(parts[4]):
                raise ValueError(f"malformed commitment: competition id {parts[4]!r} is not 1 or 2 digits")
            competition = int(parts[4])
        try:
            return cls(parts[0], parts[1], _absent(parts[2]), _absent(parts[3]), competition)
        except ValueError as error:
            raise ValueError(f"malformed commitment: {error}") from None


def _absent(part: str) -> str | None:
    return None if part == "None" else part


@dataclass(frozen=True)
class Commitment:
    """What a hotkey committed, as it stands on the chain."""

    hotkey: str
    """Who committed it."""
    uid: int
    """The uid of the hotkey at the time it was read."""
    block: int
    """The block of the commitment: its seniority."""
    text: str
    """The text as committed; 0x and hexadecimal digits where it is no UTF-8."""

    def is_of(self, other: Commitment) -> bool:
        """Whether this is about the same commitment as `other`, of whatever kind both are."""
        return all(getattr(self, field.name) == getattr(other, field.name) for field in fields(Commitment))


@dataclass(frozen=True)
class Submission(Commitment):
    """The latest commitment of a hotkey, and the model it names."""

    model: ModelId | None
    """The model; None where the text is malformed."""
    fault: str = ""
    """Why the text is malformed; "" where it is not."""

    @classmethod
    def read(cls, hotkey: str, uid: int, block: int, text: str) -> Submission:
        """A submission from the chain; a malformed text becomes its fault, never an exception."""
        try:
            return cls(hotkey, uid, block, text, ModelId.from_text(text))
        except ValueError as error:
            return cls(hotkey, uid, block, text, None, str(error))


class Submissions(tuple[Submission, ...]):
    """Submissions in order; shows itself as a table."""

    def __repr__(self) -> str:
        malformed = sum(submission.model is None for submission in self)
        return f"{len(self)} submissions, {malformed} malformed"

    def _repr_html_(self) -> str:
        rows = [
            (s.uid, s.hotkey[:8], s.block, s.model and s.model.repo, s.model and s.model.competition_id, s.fault)
            for s in self
        ]
        return table(("uid", "hotkey", "block", "repo", "competition", "fault"), rows, repr(self))


def is_full_commit(text: str) -> bool:
    """Whether the text is a full commit: 40 lower-case hexadecimal digits."""
    return bool(_COMMIT.fullmatch(text))


def is_model_file(path: str | PurePosixPath) -> bool:
    """Whether the file's name is one the protocol counts to the model."""
    name = PurePosixPath(path).name
    return any(fnmatchcase(name, pattern) for pattern in MODEL_FILES)


def file_digest(path: Path) -> str:
    """base64(SHA-256) of one file's bytes."""
    with path.open("rb") as file:
        return b64encode(hashlib.file_digest(file, "sha256").digest()).decode()


def content_hash(folder: Path, digest: Callable[[Path], str] | Mapping[Path, str] = file_digest) -> str:
    """base64(SHA-256) over the concatenated digests of the model's files in `folder`.

    Top-down: a folder's files in sorted order, then its sub-folders in sorted order, each with its
    own sub-folders. Links to folders are not entered. digest: how one file is hashed, or the digests already known.
    """
    known = digest.__getitem__ if isinstance(digest, Mapping) else digest
    total = hashlib.sha256()
    for path in _walk(folder):
        total.update(known(path).encode())
    return b64encode(total.digest()).decode()


def _walk(folder: Path) -> Iterator[Path]:
    waiting = [folder]
    while waiting:
        entries = sorted(waiting.pop().iterdir(), key=lambda path: path.name)
        yield from (path for path in entries if path.is_file() and is_model_file(path.name))
        waiting += reversed([path for path in entries if path.is_dir() and not path.is_symlink()])


def secure_hash(content: str, hotkey: str) -> str:
    """base64(SHA-256(content hash + hotkey address)): worthless to any other hotkey."""
    return b64encode(hashlib.sha256((content + hotkey).encode()).digest()).decode()
