"""The fourth step of an epoch: from results to a sealed decision. A pure function of records."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from sn37 import incentive
from sn37.competition import Competition
from sn37.incentive import Contender, Reign
from sn37.records.epochs import Epoch
from sn37.records.faults import Fault
from sn37.validator.plan import Plan
from sn37.validator.stages import FAULT_FILE

__all__ = ["Decision", "decide", "judge_results", "weights_at"]


@dataclass(frozen=True)
class Decision:
    """A decided epoch. scores: one entry per evaluated submission, best first; weights: the subnet's, by hotkey."""

    epoch: Epoch
    competition: Competition
    scores: tuple[Mapping[str, Any], ...]
    winner: str | None
    win_rate: Mapping[str, float]
    weights: Mapping[str, float]

    def __str__(self) -> str:
        if self.winner is None:
            return f"{self.competition.name} at {self.epoch.sync_block}: nobody has a finite score, nothing changes"
        best = next(entry for entry in self.scores if entry["hotkey"] == self.winner)
        rate = self.win_rate[self.winner]
        return (
            f"{self.competition.name} at {self.epoch.sync_block}: uid {best['uid']} wins "
            f"with loss {best['score']:.4f}, win rate {rate:.0%}"
        )

    def _repr_html_(self) -> str:
        tasks = [task.name for task in self.competition.tasks]
        head = "".join(f"<th>{h}</th>" for h in ("uid", "hotkey", "loss", "win rate", "weight", *tasks, "fault"))
        rows = "".join(self._row(entry, tasks) for entry in self.scores)
        return (
            f"<p>{escape(str(self))} (losses: lower is better)</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )

    def _row(self, entry: Mapping[str, Any], tasks: list[str]) -> str:
        hotkey = entry["hotkey"]
        rate = f"{self.win_rate[hotkey]:.0%}" if hotkey in self.win_rate else "-"
        cells = [
            str(entry["uid"]),
            f"<code>{escape(hotkey[:8])}</code>",
            "-" if entry["score"] is None else f"{entry['score']:.4f}",
            "-" if entry["score"] is None else rate,
            f"{self.weights.get(hotkey, 0.0):.3f}",
            *(f"{entry['raw'][task]:.4f}" if task in entry["raw"] else "-" for task in tasks),
            escape(entry["fault"]["reason"] if entry["fault"] else ""),
        ]
        return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def judge_results(
    competition: Competition, sync_block: int, results: Mapping[str, Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], Reign]:
    """Scores, best first, and the reign. Raises the fault of a result that is not the model's own fault."""
    entries = []
    for _, result in sorted(results.items()):
        fault = Fault.from_dict(result["fault"])
        if fault is not None and not fault.decides:
            raise fault.error()
        raw = {name: task["score"] for name, task in result["tasks"].items()} if fault is None else {}
        score = competition.score(raw) if fault is None else math.inf
        if fault is None and not math.isfinite(score):
            fault, raw = Fault("model", "a raw score is not finite"), {}
        entries.append(
            {
                **{name: result[name] for name in ("hotkey", "uid", "block", "text")},
                "score": score if math.isfinite(score) else None,
                "fault": fault.to_dict() if fault else None,
                "raw": raw,
                "normalized": {t.name: t.normalization(raw[t.name]) for t in competition.tasks if t.name in raw},
                "epsilon": competition.epsilon.at(sync_block, result["block"]),
            }
        )
    entries.sort(key=lambda e: (math.inf if e["score"] is None else e["score"], e["block"], e["uid"]))
    return entries, incentive.reign(contenders_of(entries), competition.epsilon, sync_block)


def contenders_of(entries: Iterable[Mapping[str, Any]]) -> list[Contender]:
    """Those of the entries that have a score."""
    return [Contender(e["hotkey"], e["uid"], e["block"], e["score"]) for e in entries if e["score"] is not None]


def decide(plan: Plan, results: Mapping[str, Mapping[str, Any]]) -> Decision:
    """Decide the epoch and seal its record; an epoch that is sealed already is read back."""
    epoch = plan.epoch
    if not epoch.sealed:
        entries, reign = judge_results(plan.competition, plan.sync_block, results)
        contenders, epsilon = contenders_of(entries), plan.competition.epsilon
        won = incentive.wins(contenders, epsilon, plan.sync_block)
        written: dict[str, Any] = {
            "sync_block": plan.sync_block,
            "scores": entries,
            "reign": [
                {
                    "hotkey": turn.contender.hotkey,
                    "incumbent": turn.incumbent and turn.incumbent.hotkey,
                    "needed": turn.needed if turn.incumbent else None,
                    "succeeds": turn.succeeds,
                }
                for turn in reign.challenges
            ],
            "wins": won,
            "win_rate": incentive.win_rates(won),
            "beats": {
                i.hotkey: [
                    j.hotkey for j in contenders if j is not i and incentive.beats(i, j, epsilon, plan.sync_block)
                ]
                for i in contenders
            },
            "winner": reign.winner,
        }
        ran = {name: sorted({r[name] for r in results.values() if name in r}) for name in ("device", "dtype", "engine")}
        epoch.write("manifest.json", {**epoch.read("manifest.json"), "ran": ran})
        epoch.write("decision.json", written)
        epoch.remove(FAULT_FILE)
        epoch = epoch.seal()
    weights = weights_at(plan, plan.uids)
    decision = epoch.decision
    scores = tuple(decision["scores"])
    return Decision(epoch, plan.competition, scores, decision["winner"], decision["win_rate"], weights)


def weights_at(plan: Plan, registered: Collection[str]) -> dict[str, float]:
    """The subnet's weights by hotkey after the plan's epoch: a fold over the records of all funded competitions.

    registered: the hotkeys that can get any; what others would have had is the rest's.
    """
    figures = plan.settings.figures
    by_competition = {}
    for share in plan.shares:
        past = plan.records.history(share.competition.id)
        by_competition[share.competition.id] = incentive.competition_weights(
            past.average(figures.alpha), registered, past.winners, figures.min_share
        )
    return incentive.subnet_weights(by_competition, {share.competition.id: share.share for share in plan.shares})
