"""The third step of an epoch: every chosen model on every sample, each in a process of its own.

A finished result is written at once; a restart evaluates only what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from sn37.sample import to_record
from sn37.validator.contenders import Pick
from sn37.validator.decide import judge_results
from sn37.validator.faults import Fault
from sn37.validator.fetch import Fetched
from sn37.validator.plan import Plan
from sn37.validator.stages import undecided_on_fault

if TYPE_CHECKING:
    from sn37.hub import FetchedModel

__all__ = ["Results", "evaluate"]


@dataclass(frozen=True)
class Results:
    """What the models made of the samples. by_hotkey: the records; entries: their scores, best first."""

    plan: Plan
    by_hotkey: Mapping[str, Mapping[str, Any]]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """One entry per model with its scores, best first; failed ones last."""
        return judge_results(self.plan.competition, self.plan.sync_block, self.by_hotkey)[0]

    def _repr_html_(self) -> str:
        rows = []
        for entry in self.entries:
            result = self.by_hotkey[entry["hotkey"]]
            fault = entry["fault"]["reason"] if entry["fault"] else ""
            score = "-" if entry["score"] is None else f"{entry['score']:.4f}"
            seconds = sum(task["seconds"] for task in result["tasks"].values())
            cells = (entry["uid"], score, f"{seconds:.1f}", fault)
            rows.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
        head = "<tr><th>uid</th><th>loss</th><th>seconds</th><th>fault of the model</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
