"""The fourth step of an epoch: from results to a sealed decision, and to weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from html import escape

from sn37 import incentive
from sn37.records.decision import Decision
from sn37.records.epochs import Epoch
from sn37.records.faults import StageFault, Waits
from sn37.validator.evaluate import Evaluated
from sn37.validator.plan import Plan
from sn37.validator.scores import decision_of

__all__ = ["Decided", "competition_weights_at", "decide", "weights_at"]


@dataclass(frozen=True)
class Decided:
    """A decided epoch, as the notebook shows it."""

    plan: Plan
    """The plan."""
    epoch: Epoch
    """Its sealed record."""
    weights: Mapping[str, float]
    """The subnet's weights after it, by hotkey, over the hotkeys registered at the sync block."""

    @property
    def decision(self) -> Decision:
        """The decision, as the record keeps it."""
        return self.epoch.decision

    @property
    def winner(self) -> str | None:
        """The winner's hotkey; None where nobody has a finite score."""
        return self.decision.winner

    def __repr__(self) -> str:
        return f"{self.plan.competition.name} at {self.decision!r}"

    def _repr_html_(self) -> str:
        tasks = [task.name for task in self.plan.competition.tasks]
        return f"<p>{escape(str(self))}</p>{self.decision.leaderboard(tasks, self.weights)}"


def decide(evaluated: Evaluated) -> Decided:
    """Decide the epoch and seal its record; an epoch that is sealed already is read back."""
    plan, results = evaluated.plan, evaluated.by_hotkey.values()
    epoch = plan.epoch
    if not epoch.sealed:
        drawn = {task: epoch.samples(task) for task in plan.manifest.data}
        decision = decision_of(plan.competition, plan.sync_block, results, evaluated.set_aside, drawn)
        measured = [result.measurement for result in results if result.measurement is not None]
        ran = {name: tuple(sorted({getattr(m, name) for m in measured})) for name in ("device", "dtype", "engine")}
        epoch.write(replace(plan.manifest, ran=ran))
        epoch.write(decision)
        epoch.remove(StageFault)
        epoch.remove(Waits)
        epoch = epoch.seal()
    return Decided(plan, epoch, weights_at(plan, plan.manifest.uids))


def weights_at(plan: Plan, registered: Collection[str]) -> dict[str, float]:
    """The subnet's weights by hotkey after the plan's epoch: a fold over the records of all funded competitions.

    registered: the hotkeys that can get any; what others would have had is the rest's.
    """
    shares = plan.manifest.shares
    return incentive.subnet_weights({id: competition_weights_at(plan, id, registered) for id in shares}, shares)


def competition_weights_at(plan: Plan, competition_id: int, registered: Collection[str]) -> dict[str, float]:
    """One competition's weights by hotkey after the plan's epoch."""
    figures = plan.manifest.figures
    past = plan.records.history(competition_id, before=plan.sync_block + 1)
    return incentive.competition_weights(past.average(figures.alpha), registered, past.winners, figures.min_share)
