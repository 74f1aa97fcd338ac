"""The judgement on an evaluation task: one page in words, with the figures and data frames behind it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

from sn37.analysis import task_figures
from sn37.analysis.task_evidence import Evidence, Finding
from sn37.analysis.task_findings import CHECKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Judgement"]

_MARKS = {"defect": "✗ defect", "warning": "! warning", "good": "✓ good", "open": "? open"}


@dataclass(frozen=True)
class Judgement:
    """Whether a task is any good; shows itself as one page in words. Data frames are in `evidence`."""

    evidence: Evidence
    """What it rests on, as values and data frames."""

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, each with its figures, what asks for action first."""
        found = [finding for check in CHECKS for finding in check(self.evidence)]
        return tuple(sorted(found, key=lambda finding: list(_MARKS).index(finding.grade)))

    def of(self, grade: str) -> tuple[Finding, ...]:
        """The findings of one grade: defect, warning, good or open."""
        return tuple(finding for finding in self.findings if finding.grade == grade)

    @property
    def verdict(self) -> str:
        """`not fit` with a defect, `fit with care` with a warning, or `fit`; `open` without a defect or two models."""
        if self.of("defect"):
            return "not fit"
        if len(self.evidence.models) < 2:
            return "open"
        return "fit with care" if self.of("warning") else "fit"

    @property
    def summary(self) -> str:
        """The verdict, and why, in a sentence."""
        names = {grade: ", ".join(dict.fromkeys(one.aspect for one in self.of(grade))) for grade in _MARKS}
        name = self.evidence.task.name
        match self.verdict:
            case "not fit":
                return f"{name} is not fit to decide a competition yet: {names['defect']}."
            case "open":
                given = "with one model" if self.evidence.models else "without models"
                return (
                    f"{name} shows no defect {given}; whether it tells models apart is open: judge it with a weak, a "
                    "middle and a strong one."
                )
            case "fit with care":
                return f"{name} is fit to decide a competition, with care: {names['warning']}."
        return f"{name} is fit to decide a competition: nothing was found against it."

    @property
    def _basis(self) -> str:
        e = self.evidence
        models = ", ".join(e.ranked) or "none: only what needs no model was looked at"
        faults = "".join(f"; {name} has no score: {reason}" for name, reason in e.faults.items())
        return (
            f"{len(e.samples)} samples of {e.task.source}, seed {e.seed}, scored by {e.task.method} (a loss: lower is "
            f"better); models, the best first: {models}{faults}. Intervals are of 95 %, by group."
        )

    def __repr__(self) -> str:
        lines = [self.summary, self._basis, ""]
        for finding in self.findings:
            lines.append(f"{_MARKS[finding.grade]:<10} {finding.aspect}: {finding.text}")
            lines += [f"{'':<10} -> {finding.advice}"] if finding.advice else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td style='white-space:nowrap'>{_MARKS[one.grade]}</td>"
            f"<td style='text-align:left'><b>{escape(one.aspect)}</b></td>"
            f"<td style='text-align:left'>{escape(one.text)}{_advice(one)}</td></tr>"
            for one in self.findings
        )
        return f"<h3>{escape(self.summary)}</h3><p>{escape(self._basis)}</p><table>{rows}</table>"

    def plot_scores(self, ax: Axes | None = None) -> Axes:
        """Models beside what can be had without solving the task."""
        return task_figures.standing(self.evidence.scores, ax, chance=self.evidence.chance)

    def plot_noise(self, ax: Axes | None = None) -> Axes:
        """The smallest difference that a number of samples shows, and what epsilon asks for."""
        return task_figures.noise(self.evidence.noise, ax, samples=len(self.evidence.samples))

    def plot_samples(self, ax: Axes | None = None) -> Axes:
        """Which samples decide."""
        return task_figures.deciding(self.evidence.values, ax)

    def plot_changes(self, ax: Axes | None = None) -> Axes:
        """What other words, or the choices in another order, do to the scores."""
        return task_figures.changes(self.evidence.changes, ax)

    def plot_weights(self, ax: Axes | None = None) -> Axes:
        """What the task's weight does to the ranking."""
        return task_figures.weights(self.evidence.weights, ax, now=self.evidence.task.weight)


def _advice(finding: Finding) -> str:
    return f"<br><i>{escape(finding.advice)}</i>" if finding.advice else ""
