"""What every source has in common: what it may ask for, its signature, its registry.

A source knows nothing of the hub, the chain or wandb: it asks the context, which the validator
composes. What it draws is decided by `context.generator` alone, before any row is fetched.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sn37.registry import Registry
from sn37.sample import Sample

__all__ = ["SOURCES", "Context", "DatasetReader", "Run", "Source", "source"]


class DatasetReader(Protocol):
    """Hub datasets as pinned at the sync block (implemented by `sn37.hub.pages`)."""

    def configs(self, repo: str) -> Sequence[str]:
        """The dataset's configs, sorted."""
        ...

    def num_rows(self, repo: str, config: str, split: str) -> int:
        """How many rows the split has."""
        ...

    def rows(
        self, repo: str, config: str, split: str, indices: Sequence[int], columns: Sequence[str]
    ) -> list[dict[str, Any]]:
        """The rows with those indices, in the order asked for, only those columns.

        Raises DataFault: unknown repo, config, split or column; private; index out of range; HubFault
        when the hub does not answer after bounded retries.
        """
        ...


@dataclass(frozen=True)
class Run:
    """One wandb run: id, config, and its history rows as an iterator of dicts."""

    id: str
    config: Mapping[str, Any]
    history: Iterator[Mapping[str, Any]]


class RunReader(Protocol):
    """wandb runs of a project not older than `since`, oldest id first (by creation, then id)."""

    def __call__(self, project: str, since: datetime) -> list[Run]: ...


class TrustedHotkeys(Protocol):
    """Hotkeys with a validator permit and at least `min_stake` on netuid's metagraph at the sync block."""

    def __call__(self, netuid: int, min_stake: float) -> frozenset[str]: ...


class Verifier(Protocol):
    """Whether `signature` (hex) is the hotkey's own over `message`. Never raises."""

    def __call__(self, message: str, signature: str, hotkey: str) -> bool: ...


@dataclass
class Context:
    """What a source may use for one task of one epoch.

    generator: the task's own; as_of: the sync block's timestamp (UTC); notes: JSON data that goes into
    the manifest (revisions, counts of dropped rows), filled by the source and the readers.
    """

    generator: random.Random
    as_of: datetime
    datasets: DatasetReader
    runs: RunReader
    trusted: TrustedHotkeys
    verify: Verifier
    notes: dict[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """A source: draws samples; keyword arguments come from the task. Raises DataFault."""

    def __call__(self, context: Context, **args: Any) -> list[Sample]: ...


SOURCES: Registry[Source] = Registry("source")
source = SOURCES
"""Decorator: `@source("name")` registers a source."""
