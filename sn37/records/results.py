"""What one model made of an epoch's samples, as its worker measured it and as the record keeps it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sn37.html import ShownByValue
from sn37.records.faults import Fault
from sn37.sample import Sample
from sn37.submission import Commitment

__all__ = ["MAX_REPLY_CHARACTERS", "Measurement", "Result", "Sketch", "TaskResult"]

MAX_REPLY_CHARACTERS = 2_000
"""How much of a reply a record keeps."""


@dataclass(frozen=True, repr=False)
class TaskResult(ShownByValue):
    """One model's outcome of one task."""

    score: float
    """The raw score, a loss: 0 or more, lower is better."""
    values: tuple[float, ...]
    """One number per sample; lower is better. The score is their mean, or `note` says why not."""
    details: tuple[Mapping[str, object], ...]
    """Per value, what a person wants to see: `reply` or `replies` (at most 2 000 characters each), `answer` (what the
    parser took of it, None for nothing), `expected`, `tokens` and what else the method tells."""
    note: str
    """Why the score is not the mean of the values; "" where it is."""
    samples: tuple[int, ...]
    """The index of each value's sample, where some were left out; () where value i belongs to sample i."""
    seconds: float
    """How long the task took."""
    tokens: int
    """How many tokens went through the model."""

    @property
    def places(self) -> Sequence[int]:
        """The index of each value's sample."""
        return self.samples or range(len(self.values))

    @property
    def counts(self) -> tuple[int, ...] | None:
        """How often each value counts in the score: as often as its sample has rules (`if_eval`); None: once."""
        followed = [detail.get("followed") for detail in self.details]
        replies = [each for each in followed if isinstance(each, list | tuple)]
        found = tuple(sum(len(rules) for rules in each if isinstance(rules, list | tuple)) for each in replies)
        return found if any(found) and len(found) == len(self.values) else None

    def groups(self, drawn: Sequence[Sample]) -> list[str | int]:
        """The group of each value, to count values by; a sample without one stands alone.

        drawn: the task's samples, () where they are not kept.
        """
        return [drawn[place].group or place for place in self.places] if drawn else list(self.places)


_MAX_SKETCHED = 1_024
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Sketch:
    """A few hundred of a model's weights, by which models compare, however their files are written."""

    digest: str
    """SHA-256 over all parameters, in the dtype the model was computed in: equal digests, equal weights."""
    tensors: Mapping[str, tuple[float, ...]]
    """Weights at fixed places of some of its matrices, each known by a hash of its name and shape."""

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.digest):
            raise ValueError("digest is no SHA-256 in hexadecimal")
        if sum(map(len, self.tensors.values())) > _MAX_SKETCHED or not all(self.tensors.values()):
            raise ValueError(f"tensors hold more than {_MAX_SKETCHED} weights, or one holds none")
        if not all(math.isfinite(weight) for weights in self.tensors.values() for weight in weights):
            raise ValueError("tensors hold a weight that is not finite")


@dataclass(frozen=True)
class Measurement:
    """What a worker measured of one model."""

    tasks: Mapping[str, TaskResult]
    """The outcome of each task, by its name."""
    parameters: int
    """Parameters of the loaded model."""
    device: str
    """The GPU's name, or `cpu`."""
    dtype: str
    """What the model was computed in."""
    engine: str
    """`fast` or `reference`."""
    plan: Mapping[str, object]
    """How the engine made its batches, and what leaving that plan may have changed; {} for the reference."""
    load_s: float
    """Seconds that checking and loading the model took."""
    memory_bytes: int
    """The most memory the worker held: of the GPU where it ran on one."""
    sketch: Sketch | None = None
    """What its weights are known by; None in records of versions that did not take it."""


@dataclass(frozen=True)
class Basis:
    """What a result rests on: it holds again for the same commitment and an equal basis."""

    competition_digest: str
    """The competition's digest."""
    samples: Mapping[str, str]
    """The digest of each task's samples."""
    versions: Mapping[str, str]
    """The versions of the packages that compute, of Python and of the machine."""


@dataclass(frozen=True)
class Result(Commitment):
    """One evaluated submission."""

    basis: Basis
    """What the result rests on."""
    fault: Fault | None
    """Why the model loses by its own fault; None where it was measured."""
    measurement: Measurement | None
    """What was measured; None where the model is at fault."""
    content_hash: str = ""
    """The content hash of its files; "" where they could not be had."""
    bytes: int = 0
    """The size of its files."""
    finished_at: datetime | None = field(default=None, compare=False)
    """When the evaluation ended (UTC)."""

    @property
    def tasks(self) -> Mapping[str, TaskResult]:
        """The outcome of each task, {} where the model is at fault."""
        return {} if self.measurement is None else self.measurement.tasks
