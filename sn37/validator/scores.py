"""From results to a decision: pure functions of records. Protocol, section 8."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping

from sn37 import incentive
from sn37.analysis.outcomes import Drawn, difference_of
from sn37.competition import Competition
from sn37.incentive import Contender
from sn37.records.decision import Decision, Difference, Score, Turn
from sn37.records.epochs import Epoch
from sn37.records.faults import Fault
from sn37.records.results import Result
from sn37.sample import digest

__all__ = ["decision_of", "mistakes_of", "scores_of"]


def scores_of(competition: Competition, sync_block: int, results: Iterable[Result]) -> tuple[Score, ...]:
    """Every result's score, the best first: equal losses in the order of block, then uid; failed ones last.

    Raises the fault of a result that is not the model's own.
    """
    scores = [_score(competition, sync_block, result) for result in results]
    return tuple(sorted(scores, key=lambda s: (math.inf if s.score is None else s.score, s.block, s.uid, s.hotkey)))


def _score(competition: Competition, sync_block: int, result: Result) -> Score:
    fault = result.fault
    if fault is not None and not fault.decides:
        raise fault.error()
    raw = {name: task.score for name, task in result.tasks.items()}
    score = math.inf if fault is not None else competition.score(raw)
    if fault is None and not math.isfinite(score):
        fault, raw = Fault("model", "a raw score is not finite"), {}
    return Score(
        hotkey=result.hotkey,
        uid=result.uid,
        block=result.block,
        text=result.text,
        score=score if math.isfinite(score) else None,
        fault=fault,
        raw=raw,
        normalized={task.name: task.normalization(raw[task.name]) for task in competition.tasks if task.name in raw},
        epsilon=competition.epsilon.at(sync_block, result.block),
    )


def decision_of(
    competition: Competition,
    sync_block: int,
    results: Iterable[Result],
    set_aside: Mapping[str, str] | None = None,
    drawn: Drawn | None = None,
) -> Decision:
    """The decision that these results make, in any order.

    set_aside: who could not be had and why, by hotkey. drawn: the samples, whose groups the intervals of differences
    need; without them they are worked out where the competition asks for significance only, each sample on its own.
    """
    results = tuple(results)
    scores = scores_of(competition, sync_block, results)
    contenders = [score.contender for score in scores if score.contender is not None]
    by_hotkey = {result.hotkey: result for result in results}

    @functools.cache
    def difference(contender: str, incumbent: str) -> Difference:
        return difference_of(competition, sync_block, by_hotkey[contender], by_hotkey[incumbent], drawn or {})

    def convinces(contender: Contender, incumbent: Contender) -> bool:
        return competition.significance is None or difference(contender.hotkey, incumbent.hotkey).convinces

    reign = incentive.reign(contenders, competition.epsilon, sync_block, convinces)
    told = drawn is not None or competition.significance is not None
    won = incentive.wins(contenders, competition.epsilon, sync_block)
    return Decision(
        sync_block=sync_block,
        scores=scores,
        reign=tuple(
            Turn(
                hotkey=turn.contender.hotkey,
                incumbent=turn.incumbent.hotkey if turn.incumbent else None,
                needed=turn.needed if turn.incumbent else None,
                succeeds=turn.succeeds,
                difference=difference(turn.contender.hotkey, turn.incumbent.hotkey)
                if told and turn.incumbent
                else None,
            )
            for turn in reign.challenges
        ),
        wins=won,
        win_rate=incentive.win_rates(won),
        beats={
            i.hotkey: tuple(
                j.hotkey for j in contenders if j is not i and incentive.beats(i, j, competition.epsilon, sync_block)
            )
            for i in contenders
        },
        winner=reign.winner,
        set_aside=set_aside or {},
        timings={
            result.hotkey: (result.measurement.load_s, math.fsum(task.seconds for task in result.tasks.values()))
            for result in results
            if result.measurement is not None
        },
    )


def mistakes_of(epoch: Epoch) -> list[str]:
    """Where a decided epoch's record does not agree with itself, in sentences; [] where it does.

    The samples' digests (while samples are kept), the results' basis, and the decision are worked out again. Seals
    nothing: who changes all of them together is not found.
    """
    manifest, found = epoch.manifest, []
    for task, data in manifest.data.items() if epoch.keeps_samples else ():
        if digest(epoch.samples(task)) != data.digest:
            found.append(f"the samples of {task} are not those of their digest {data.digest[:16]}")
    drawn = {task: data.digest for task, data in manifest.data.items()}
    for result in epoch.results.values():
        if (result.basis.competition_digest, result.basis.samples) != (manifest.competition_digest, drawn):
            found.append(f"the result of uid {result.uid} rests on another competition or other samples")
    kept = {task: epoch.samples(task) for task in manifest.data} if epoch.keeps_samples else None
    if kept is None and manifest.competition.significance is not None:
        return found  # without the samples' groups the intervals cannot be worked out again
    again = decision_of(manifest.competition, epoch.sync_block, epoch.results.values(), epoch.decision.set_aside, kept)
    if again != epoch.decision:
        found.append("the decision is not the one that the results make")
    return found
