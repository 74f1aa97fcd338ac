"""Pages of educational web text: hub dataset HuggingFaceFW/fineweb-edu-score-2 (protocol, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from sn37.errors import DataFault
from sn37.sample import Sample, TextSample
from sn37.sources.base import Context, Count, source
from sn37.sources.pages import page_indices

__all__ = ["Fineweb"]

REPO = "HuggingFaceFW/fineweb-edu-score-2"
SPLIT = "train"


@source("fineweb")
@dataclass(frozen=True)
class Fineweb:
    """Texts from `pages` pages of `page_rows` rows, each page from a dump drawn anew.

    The dataset has one config for each crawl beside `default`, which holds them all and is far too large to be
    counted.
    """

    pages: Count = 4
    """Pages that are drawn."""
    page_rows: Count = 100
    """Rows of a page."""

    def __call__(self, context: Context) -> list[Sample]:
        """The samples, drawn with the context's generator."""
        configs = [name for name in context.datasets.configs(REPO) if name != "default"] or ["default"]
        if not context.datasets.configs(REPO):
            raise DataFault(f"{REPO} has no config")
        drawn = [context.generator.choice(configs) for _ in range(self.pages)]
        samples: list[Sample] = []
        for config in dict.fromkeys(drawn):
            rows = self.page_rows * drawn.count(config)
            total = context.datasets.num_rows(REPO, config, SPLIT)
            indices = page_indices(context.generator, total, rows, self.page_rows, f"{REPO} ({config})")
            for row in context.datasets.rows(REPO, config, SPLIT, indices, ["text"]):
                if isinstance(row["text"], str) and row["text"].strip():
                    samples.append(TextSample(row["text"]))
                else:
                    context.drop("rows without text")
        context.enough(samples, self.pages * self.page_rows // 2, REPO)
        return samples
