"""Multiple-choice questions from the wandb runs of subnet 1's validators, its earlier form (protocol, section 5)."""

from __future__ import annotations

from sn37.sample import ChoiceSample, Sample
from sn37.sources.authors import MIN_STAKE, SignedRuns
from sn37.sources.base import Context, Count, source
from sn37.sources.macrobench import CHOICES

__all__ = ["prompting"]

RUNS = SignedRuns("macrocosmos/prompting-validators", 1, "HOTKEY_SS58", "SIGNATURE")


@source("prompting")
def prompting(
    context: Context,
    *,
    max_samples: Count = 700,
    min_samples: Count = 50,
    max_age_hours: float = 4.0,
    run_rows: Count = 5_000,
    min_stake: float = MIN_STAKE,
) -> list[Sample]:
    """Questions asked in the last hours, with the letters A to D to choose from, and the right letter.

    run_rows: the most history rows that are taken from one run.
    """
    found: dict[Sample, None] = {}
    for row in RUNS.rows(context, min_stake=min_stake, max_age_hours=max_age_hours, run_rows=run_rows):
        challenge, letter = row.get("challenge"), row.get("reference")
        if row.get("task") != "multi_choice":
            continue
        if letter in CHOICES and isinstance(challenge, str) and challenge.strip():
            found[ChoiceSample(challenge, CHOICES, str(letter))] = None
        else:
            context.drop("rows without an answer from A to D")
    samples = list(found)
    context.enough(samples, min_samples, RUNS.project)
    return context.generator.sample(samples, min(len(samples), max_samples))
