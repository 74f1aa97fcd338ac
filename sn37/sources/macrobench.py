"""Multiple-choice questions that validators of subnet 1 wrote and answered: hub dataset
macrocosm-os/macrobench-bittensor-01 (protocol, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from sn37.errors import DataFault
from sn37.sample import ChoiceSample, Sample
from sn37.sources.authors import MIN_STAKE, Authors
from sn37.sources.base import Context, Count, source

__all__ = ["CHOICES", "Macrobench", "answered"]

REPO = "macrocosm-os/macrobench-bittensor-01"
NETUID = 1
CHOICES = ("A", "B", "C", "D")


@source("macrobench")
@dataclass(frozen=True)
class Macrobench:
    """Questions with the letters A to D to choose from, and the right letter."""

    configs: Count = 10
    """Configs that are drawn."""
    max_samples: Count = 700
    """At most so many samples are kept."""
    min_samples: Count = 50
    """Fewer samples are a data fault."""
    min_stake: float = MIN_STAKE
    """TAO from which a validator is trusted as an author."""

    def __call__(self, context: Context) -> list[Sample]:
        """The samples, drawn with the context's generator."""
        found = answered(context, configs=self.configs, max_samples=self.max_samples, min_stake=self.min_stake)
        samples: list[Sample] = [ChoiceSample(challenge, CHOICES, letter) for challenge, letter in found]
        context.enough(samples, self.min_samples, REPO)
        return samples


def answered(
    context: Context, *, configs: int = 10, max_samples: int = 700, min_stake: float = MIN_STAKE
) -> list[tuple[str, str]]:
    """Up to `max_samples` (challenge, right letter), by trusted authors, out of `configs` drawn configs.

    Three times as many rows are drawn as are kept, so that dropped ones do not thin the samples out.
    """
    names = list(context.datasets.configs(REPO))
    if not names:
        raise DataFault(f"{REPO} has no config")
    drawn = context.generator.sample(names, min(configs, len(names)))
    context.notes["configs"] = drawn
    pool = [(name, i) for name in drawn for i in range(context.datasets.num_rows(REPO, name, name))]
    order = context.generator.sample(pool, min(len(pool), 3 * max_samples))
    authors = Authors(context, NETUID, min_stake)
    found: dict[tuple[str, str], None] = {}
    rows = _read(context, order)
    for place in order:
        challenge, letter, hotkey = rows[place]
        if fault := authors.fault(hotkey):
            context.drop(f"rows {fault}")
        elif letter not in CHOICES or not isinstance(challenge, str) or not challenge.strip():
            context.drop("rows without an answer from A to D")
        elif len(found) < max_samples:
            found[challenge, str(letter)] = None
    return list(found)


def _read(context: Context, places: list[tuple[str, int]]) -> dict[tuple[str, int], tuple[object, object, object]]:
    columns = ["challenge", "reference", "hotkey"]
    rows = {}
    for name in sorted({name for name, _ in places}):
        indices = sorted(index for config, index in places if config == name)
        for index, row in zip(indices, context.datasets.rows(REPO, name, name, indices, columns), strict=True):
            rows[name, index] = (row["challenge"], row["reference"], row["hotkey"])
    return rows
