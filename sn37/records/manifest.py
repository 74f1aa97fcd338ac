"""All that is needed to repeat an epoch: what ran, on which data, who took part and why.

A restart takes part with whom the first start took part, and a decided epoch is shown and published as decided, also
after the competition's file was changed or the node has forgotten the state of the sync block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Annotated, Any

from sn37.clock import Clock, seed_of
from sn37.competition import Competition
from sn37.competitions import competition_from, document_of
from sn37.protocol import Figures, SelectionLimits
from sn37.records.codec import Plain
from sn37.submission import Commitment, Submission

__all__ = ["Manifest", "Pick", "TaskData"]


_COMMITMENT = {"hotkey": str, "uid": int, "block": int, "text": str}


def _submission(data: Any) -> Submission:
    """The submission that a commitment stands for."""
    if not isinstance(data, dict) or {name: type(value) for name, value in data.items()} != _COMMITMENT:
        raise ValueError(f"{data!r} is no commitment; expected hotkey, uid, block and text")
    return Submission.read(**data)


def _commitment(submission: Commitment) -> dict[str, object]:
    return {field.name: getattr(submission, field.name) for field in fields(Commitment)}


def _competition(data: Any) -> Competition:
    """The competition, in the form of its file; its sources and methods need not be known where a record is read."""
    if not isinstance(data, dict):
        raise ValueError(f"{data!r} is no competition; expected the tables of its file")
    return competition_from(data, "the competition", registered=False)


@dataclass(frozen=True)
class Pick:
    """What becomes of one submission in an epoch."""

    submission: Annotated[Submission, Plain(_submission, _commitment)]
    """The submission as it stood at the sync block."""
    evaluate: bool
    """Whether it is evaluated."""
    why: str
    """The reason, for people."""


@dataclass(frozen=True)
class TaskData:
    """Where one task's samples came from."""

    digest: str
    """The digest of the samples (`sn37.sample.digest`)."""
    samples: int
    """How many there are."""
    dropped: Mapping[str, int]
    """How many rows were left out for all models, by reason."""
    notes: Mapping[str, object]
    """What else the source tells, such as the configs it drew."""
    revisions: Mapping[str, str]
    """The commit of each hub dataset that was read."""
    seconds: float = field(compare=False)
    """How long drawing them took."""


@dataclass(frozen=True)
class Manifest:
    """One epoch as it was planned; the last fields are filled while it is worked on."""

    competition: Annotated[Competition, Plain(_competition, document_of)]
    """The competition as it ran."""
    competition_digest: str
    """Its digest."""
    shares: Mapping[int, float]
    """The shares of the emission at the sync block, by competition id; they sum to 1."""
    network: str
    """The chain's name or URL."""
    netuid: int
    """The subnet."""
    hub: str | None
    """The hub's address; None for the public one."""
    own_tasks: Mapping[str, str | None]
    """The validator's own files and entry points with sources and methods, each file with its digest."""
    clock: Clock
    """The subnet's clock."""
    sync_block: int
    """The epoch's sync block."""
    block_hash: str
    """The hash of the sync block: its seed is drawn from it."""
    as_of: datetime
    """When the sync block was made (UTC): the data are pinned to it."""
    figures: Figures
    """The protocol's figures as this validator has them."""
    limits: SelectionLimits
    """How many models it evaluates."""
    uids: Mapping[str, int]
    """Registered hotkeys and their uids at the sync block."""
    submissions: tuple[Pick, ...]
    """Every submission, and whether it is evaluated and why."""
    data: Mapping[str, TaskData] = field(default_factory=dict)
    """Each task's data, once its samples are drawn."""
    tokenizer: str | None = None
    """The commit of the competition's tokenizer; None where each model brings its own."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """The versions of the packages that compute, of Python and of the machine."""
    ran: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """`device`, `dtype` and `engine` of the results, once decided."""

    def __post_init__(self) -> None:
        seed_of(self.block_hash)
        if self.competition.digest != self.competition_digest:
            raise ValueError("the competition is not the one its digest stands for: it was changed after the epoch")

    @property
    def seed(self) -> int:
        """The seed of all sampling."""
        return seed_of(self.block_hash)
