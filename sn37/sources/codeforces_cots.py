"""Long reasoning over programming contests: hub dataset open-r1/codeforces-cots (protocol, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from sn37.sample import ReferenceSample, Sample
from sn37.sources.base import Context, Count, source
from sn37.sources.pages import page_indices
from sn37.sources.synthetic_1_sft import exchange

__all__ = ["CodeforcesCots"]

REPO = "open-r1/codeforces-cots"

CHARACTERS_PER_TOKEN = 4
"""A sample holds text, and its length in tokens depends on the tokenizer: it is estimated, the same for all."""


@source("codeforces_cots")
@dataclass(frozen=True)
class CodeforcesCots:
    """Questions and whole replies, without those that are too long."""

    rows: Count = 120
    """Rows that are read."""
    page_rows: Count = 40
    """Neighbouring rows that are read together."""
    min_samples: Count = 20
    """Fewer samples are a data fault."""
    max_tokens: int = 16_384
    """Rows estimated to be longer, in tokens, are left out."""
    config: str = "solutions"
    """The dataset's config."""
    split: str = "train"
    """The config's split."""

    def __call__(self, context: Context) -> list[Sample]:
        """The samples, drawn with the context's generator."""
        total = context.datasets.num_rows(REPO, self.config, self.split)
        indices = page_indices(context.generator, total, self.rows, self.page_rows, REPO)
        samples: list[Sample] = []
        for row in context.datasets.rows(REPO, self.config, self.split, indices, ["messages"]):
            question, reply = exchange(row["messages"])
            if not question or not reply:
                context.drop("rows without exactly two messages")
            elif len(question) + len(reply) > self.max_tokens * CHARACTERS_PER_TOKEN:
                context.drop("rows that are too long")
            else:
                samples.append(ReferenceSample(question, reply))
        context.enough(samples, self.min_samples, REPO)
        return samples
