"""Multiple-choice questions from the wandb runs of subnet 1's validators, its earlier form (protocol, section 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sn37.sample import ChoiceSample, Sample
from sn37.sources.authors import SignedRuns, SignedSource
from sn37.sources.base import Context, DataRow, source
from sn37.sources.macrobench import CHOICES

__all__ = ["Prompting"]


@source("prompting")
@dataclass(frozen=True)
class Prompting(SignedSource):
    """Questions asked in the last hours, with the letters A to D to choose from, and the right letter."""

    RUNS = SignedRuns("macrocosmos/prompting-validators", 1, "HOTKEY_SS58", "SIGNATURE")

    def samples_of(self, row: DataRow, context: Context) -> Iterator[Sample]:
        challenge, letter = row.get("challenge"), row.get("reference")
        if row.get("task") != "multi_choice":
            return
        if letter in CHOICES and isinstance(challenge, str) and challenge.strip():
            yield ChoiceSample(challenge, CHOICES, str(letter))
        else:
            context.drop("rows without an answer from A to D")
