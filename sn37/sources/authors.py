"""Whose data counts: trusted validators of the subnet the data comes from, and what they really signed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import ClassVar

from sn37.sample import Sample
from sn37.sources.base import Context, Count, DataRow, Run

__all__ = ["MIN_STAKE", "Authors", "SignedRuns", "SignedSource"]

MIN_STAKE = 10_000.0
"""Stake from which a validator is trusted as an author of data (protocol, section 1)."""


class Authors:
    """The trusted authors on one subnet, as of the sync block."""

    def __init__(self, context: Context, netuid: int, min_stake: float) -> None:
        self._context = context
        self._trusted = context.trusted(netuid, min_stake)
        self._validators = context.trusted(netuid, 0.0)

    def fault(self, hotkey: object) -> str:
        """Why data of `hotkey` is left out, "" where it is trusted."""
        if not isinstance(hotkey, str):
            return "of no validator"
        if hotkey in self._trusted:
            return ""
        return "of an under-staked validator" if hotkey in self._validators else "of no validator"


@dataclass(frozen=True)
class SignedRuns:
    """Where a subnet's validators log to wandb, and how they sign."""

    project: str
    """The wandb project, `entity/project`."""
    netuid: int
    """The subnet on whose metagraph the authors are looked up."""
    hotkey: str
    """The key of a run's config that holds the author's hotkey."""
    signature: str
    """The key that holds the hotkey's signature (hex) over the run's id."""
    config: Mapping[str, str] = field(default_factory=dict)
    """What a run's config must say besides."""

    def fault(self, run: Run, context: Context, authors: Authors) -> str:
        """Why a run is left out, "" where a trusted author has signed it."""
        if any(run.config.get(key) != value for key, value in self.config.items()):
            return "of another type"
        hotkey, signature = run.config.get(self.hotkey), run.config.get(self.signature)
        if not (isinstance(hotkey, str) and isinstance(signature, str) and hotkey and signature):
            return "without a signature"
        if fault := authors.fault(hotkey):
            return fault
        verified = context.verify(run.id, signature.removeprefix("0x"), hotkey)
        return "" if verified else "with a forged signature"


@dataclass(frozen=True)
class SignedSource(ABC):
    """Samples made of the rows that trusted validators have logged in the last hours, each sample once."""

    RUNS: ClassVar[SignedRuns]

    max_samples: Count = 700
    """At most so many samples are kept."""
    min_samples: Count = 50
    """Fewer samples are a data fault."""
    max_age_hours: float = 4.0
    """Hours before the sync block from which rows count."""
    run_rows: Count = 5_000
    """The most history rows that are taken from one run."""
    min_stake: float = MIN_STAKE
    """TAO from which a validator is trusted as an author."""

    @abstractmethod
    def samples_of(self, row: DataRow, context: Context) -> Iterator[Sample]:
        """The samples that a row makes; what is left out is noted in the context."""

    def __call__(self, context: Context) -> list[Sample]:
        """The samples, drawn with the context's generator."""
        samples = list(dict.fromkeys(sample for row in self._rows(context) for sample in self.samples_of(row, context)))
        context.enough(samples, self.min_samples, self.RUNS.project)
        return context.generator.sample(samples, min(len(samples), self.max_samples))

    def _rows(self, context: Context) -> Iterator[DataRow]:
        """The history rows of the last hours before the sync block, of runs signed by trusted authors."""
        since = context.as_of - timedelta(hours=self.max_age_hours)
        authors = Authors(context, self.RUNS.netuid, self.min_stake)
        for run in context.runs(self.RUNS.project, since, context.as_of):
            if fault := self.RUNS.fault(run, context, authors):
                context.drop(f"runs {fault}")
                continue
            within = (row for row in run.history if _within(row.get("_timestamp"), since, context.as_of))
            for row in islice(within, self.run_rows):
                if _unicode(row):
                    yield row
                else:
                    context.drop("rows with half a character")


def _within(timestamp: object, since: datetime, until: datetime) -> bool:
    return isinstance(timestamp, int | float) and since.timestamp() <= timestamp <= until.timestamp()


def _unicode(row: DataRow) -> bool:
    """Whether its texts can be encoded: JSON may hold half of a pair of surrogates, which no tokenizer takes."""
    try:
        "".join(value for value in row.values() if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        return False
    return True
