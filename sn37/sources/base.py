"""What every source has in common: what it may ask for, its signature, its registry.

A source knows nothing of the hub, the chain or wandb: it asks the context, which the validator
composes. What it draws is decided by `context.generator` alone, before any row is fetched.
"""

from __future__ import annotations

import inspect
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Protocol, TypeVar

from annotated_types import Ge, Le

from sn37.errors import ConfigError, DataFault
from sn37.registry import Factory, Registry
from sn37.sample import Sample

__all__ = [
    "SOURCES",
    "Context",
    "Count",
    "DataRow",
    "DatasetReader",
    "Run",
    "RunReader",
    "Source",
    "TrustedHotkeys",
    "Verifier",
    "source",
]

Count = Annotated[int, Ge(1), Le(10_000)]
"""An argument that counts rows or samples: bounded, for anyone can write a competition."""

DataRow = Mapping[str, object]
"""A row of a dataset or of a run's history: column -> JSON data, written by anyone."""


class DatasetReader(Protocol):
    """Hub datasets as pinned at the sync block (implemented by `sn37.data`)."""

    def configs(self, repo: str) -> Sequence[str]:
        """The dataset's configs, sorted."""
        ...

    def num_rows(self, repo: str, config: str, split: str) -> int:
        """How many rows the split has."""
        ...

    def rows(
        self, repo: str, config: str, split: str, indices: Sequence[int], columns: Sequence[str]
    ) -> Sequence[DataRow]:
        """The rows with those indices, in the order asked for, only those columns.

        Raises DataFault: unknown repo, config, split or column; private; index out of range; HubFault
        when the hub does not answer after bounded retries.
        """
        ...


@dataclass(frozen=True)
class Run:
    """One wandb run."""

    id: str
    """Its id within the project, over which its author signed."""
    config: DataRow
    """What its author says of it."""
    history: Iterable[DataRow]
    """Its rows as logged, read only when iterated over."""


class RunReader(Protocol):
    """The wandb runs of a project that were alive between `since` and `until` (created by then, and
    heard of since), oldest first (by creation, then id). Raises DataFault, EvaluatorFault.

    Histories may hold rows from outside that time: the source leaves them out by their `_timestamp`,
    so that a validator that reads later sees the same.
    """

    def __call__(self, project: str, since: datetime, until: datetime) -> Sequence[Run]: ...


class TrustedHotkeys(Protocol):
    """Hotkeys with a validator permit and at least `min_stake` on netuid's metagraph at the sync block."""

    def __call__(self, netuid: int, min_stake: float) -> frozenset[str]: ...


class Verifier(Protocol):
    """Whether `signature` (hex) is the hotkey's own over `message`. Never raises."""

    def __call__(self, message: str, signature: str, hotkey: str, /) -> bool: ...


@dataclass
class Context:
    """What a source may use for one task of one epoch."""

    generator: random.Random
    """The task's own: all that is drawn is drawn with it."""
    as_of: datetime
    """The sync block's timestamp (UTC)."""
    datasets: DatasetReader
    """Hub datasets, pinned at the sync block."""
    runs: RunReader
    """The wandb runs that were alive then."""
    trusted: TrustedHotkeys
    """Whose data counts."""
    verify: Verifier
    """Whether a signature is a hotkey's own."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> how many rows or samples were left out for it; goes into the manifest."""
    notes: dict[str, object] = field(default_factory=dict)
    """Further JSON data that goes into the manifest, filled by the source."""

    def drop(self, reason: str) -> None:
        """Note that something was left out, and why."""
        self.dropped[reason] += 1

    def enough(self, samples: Sequence[Sample], least: int, what: str) -> None:
        """Raise DataFault, with the reasons, where fewer than `least` samples are left."""
        if len(samples) < least:
            left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
            why = f"; left out: {left_out}" if left_out else ""
            raise DataFault(f"{what} gave {len(samples)} samples; expected {least} or more{why}")


Source = Callable[[Context], list[Sample]]
"""Draws the samples of a task. What it draws follows from the context alone. Raises DataFault."""

SOURCES: Registry[Source] = Registry("source")
"""Every source there is, by the name that a competition file calls it by."""

F = TypeVar("F", bound=Callable[..., object])


def source(name: str) -> Callable[[F], F]:
    """Decorator: register a source under `name`.

    A frozen dataclass whose fields are the arguments, and which is called with a Context; or a plain function whose
    first parameter is `context`, or `rng` where a random generator is all it needs, and which returns or yields
    samples: its other parameters are the arguments.

    >>> @source("squares")
    ... def squares(rng, count: int = 3):
    ...     for _ in range(count):
    ...         number = rng.randint(2, 99)
    ...         yield ReferenceSample(f"What is {number} squared?", str(number**2))
    """

    def register(entry: F) -> F:
        if isinstance(entry, type):
            SOURCES.add(name, Factory(entry, entry))
            return entry
        first = next(iter(inspect.signature(entry).parameters), "")
        if first not in ("context", "rng"):
            raise ConfigError(f"the source {name!r} begins with {first or 'no parameter'!r}; expected context or rng")

        def make(**arguments: object) -> Source:
            def draw(context: Context) -> list[Sample]:
                drawn = entry(context.generator if first == "rng" else context, **arguments)
                samples: list[Sample] = []
                for sample in drawn if isinstance(drawn, Iterable) else (drawn,):
                    if not isinstance(sample, Sample):
                        raise ConfigError(
                            f"the source {name!r} gave {sample!r}; expected samples, as sn37.TextSample(...)"
                        )
                    samples.append(sample)
                return samples

            return draw

        SOURCES.add(name, Factory(make, entry, frozenset((first,))))
        return entry

    return register
