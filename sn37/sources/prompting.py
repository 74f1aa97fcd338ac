"""Multiple-choice questions from the wandb runs of subnet 1's validators, its earlier form (protocol, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from sn37.sample import ChoiceSample, Sample
from sn37.sources.authors import MIN_STAKE, SignedRuns
from sn37.sources.base import Context, Count, source
from sn37.sources.macrobench import CHOICES

__all__ = ["Prompting"]

RUNS = SignedRuns("macrocosmos/prompting-validators", 1, "HOTKEY_SS58", "SIGNATURE")


@source("prompting")
@dataclass(frozen=True)
class Prompting:
    """Questions asked in the last hours, with the letters A to D to choose from, and the right letter."""

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

    def __call__(self, context: Context) -> list[Sample]:
        """The samples, drawn with the context's generator."""
        found: dict[Sample, None] = {}
        rows = RUNS.rows(context, min_stake=self.min_stake, max_age_hours=self.max_age_hours, run_rows=self.run_rows)
        for row in rows:
            challenge, letter = row.get("challenge"), row.get("reference")
            if row.get("task") != "multi_choice":
                continue
            if letter in CHOICES and isinstance(challenge, str) and challenge.strip():
                found[ChoiceSample(challenge, CHOICES, str(letter))] = None
            else:
                context.drop("rows without an answer from A to D")
        samples = list(found)
        context.enough(samples, self.min_samples, RUNS.project)
        return context.generator.sample(samples, min(len(samples), self.max_samples))
