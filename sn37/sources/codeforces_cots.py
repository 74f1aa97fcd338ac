"""Long reasoning over programming contests: hub dataset open-r1/codeforces-cots (protocol, section 5)."""

from __future__ import annotations

from sn37.sample import ReferenceSample, Sample
from sn37.sources.base import Context, Count, source
from sn37.sources.pages import page_indices
from sn37.sources.synthetic_1_sft import exchange

__all__ = ["codeforces_cots"]

REPO = "open-r1/codeforces-cots"

CHARACTERS_PER_TOKEN = 4
"""A sample holds text, and its length in tokens depends on the tokenizer: it is estimated, the same for all."""


@source("codeforces_cots")
def codeforces_cots(
    context: Context,
    *,
    rows: Count = 120,
    page_rows: Count = 40,
    min_samples: Count = 20,
    max_tokens: int = 16_384,
    config: str = "solutions",
    split: str = "train",
) -> list[Sample]:
    """Questions and whole replies of the `rows` rows read, without those estimated at over `max_tokens`."""
    total = context.datasets.num_rows(REPO, config, split)
    indices = page_indices(context.generator, total, rows, page_rows, REPO)
    samples: list[Sample] = []
    for row in context.datasets.rows(REPO, config, split, indices, ["messages"]):
        question, reply = exchange(row["messages"])
        if not question or not reply:
            context.drop("rows without exactly two messages")
        elif len(question) + len(reply) > max_tokens * CHARACTERS_PER_TOKEN:
            context.drop("rows that are too long")
        else:
            samples.append(ReferenceSample(question, reply))
    context.enough(samples, min_samples, REPO)
    return samples
