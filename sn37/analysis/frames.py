"""Records as data frames: one function a table, documented columns, a stable order.

Every function takes an epoch, the records of a validator (a `Records` or its folder), or several validators' by name,
and returns a pandas DataFrame; `COLUMNS` says what each column holds, `Only` which epochs can be asked for. Losses and
scores: lower is better. What validators publish on the hub or in wandb is read by `sn37.open_records`.

    frames.models("validator/records", competition=4, last=50)
    frames.samples(epoch, task="QUESTIONS")
    frames.weights({"mine": "validator/records", "theirs": sn37.open_records("hf://user/dataset")})

Reads what is asked for and no more; knows nothing of the chain, a GPU or torch. Only decided epochs are shown, but for
`faults`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from sn37 import incentive
from sn37.analysis import copies, stats
from sn37.analysis.columns import COLUMNS
from sn37.analysis.outcomes import task_pair, task_rows
from sn37.errors import ConfigError
from sn37.records.decision import Decision, Publication
from sn37.records.epochs import Epoch, Records
from sn37.records.faults import StageFault
from sn37.records.history import Key
from sn37.records.results import Result
from sn37.submission import Submission

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "COLUMNS",
    "Only",
    "Source",
    "distances",
    "duels",
    "epochs",
    "faults",
    "models",
    "samples",
    "scores",
    "submissions",
    "turns",
    "weights",
    "with_intervals",
]

Source = Epoch | Records | Path | str | Mapping[str, Records | Path | str]
"""Where frames come from: an epoch, a validator's records or their folder, or several validators' by name."""

Row = dict[str, object]


class Only(TypedDict, total=False):
    """Which epochs a frame shows; all of them where nothing is said."""

    competition: int | None
    """Only this competition, by its id."""
    since: int
    """Only sync blocks from this one on."""
    until: int | None
    """Only sync blocks up to this one."""
    last: int | None
    """Only so many of the newest, of each competition."""


def with_intervals(epoch: Epoch, level: float = 0.95) -> DataFrame:
    """`models` of one epoch with `low` and `high`: the interval of each score, from its samples, clustered by group.

    The bootstrap of `stats.score_difference`, against a model whose losses are all 0.
    """
    competition, results = epoch.manifest.competition, epoch.results
    drawn = {task.name: epoch.samples(task.name) for task in competition.tasks}
    frame = models(epoch)
    for place, hotkey in enumerate(frame["hotkey"]):
        pairs = {}
        for task in competition.tasks:
            outcome = results[hotkey].tasks.get(task.name) if hotkey in results else None
            if outcome is not None and outcome.values:
                pairs[task.name] = task_pair(task, outcome, None, drawn[task.name])
        if pairs:
            found = stats.score_difference(pairs, seed=epoch.sync_block, draws=1_000, level=level)
            frame.loc[place, ["low", "high"]] = found.low, found.high
    return frame


def epochs(source: Source, **only: Unpack[Only]) -> DataFrame:
    """One row an epoch."""
    return _frame("epochs", (_epoch_row(*found) for found in _walk(source, **only)))


def models(source: Source, **only: Unpack[Only]) -> DataFrame:
    """One row a model and epoch, the best first. Of each submission that has a score one result is read."""
    walk = list(_walk(source, **only))
    found = {place: copies.of(epochs) for place, epochs in _by_competition(walk).items()}
    return _frame("models", (row for name, epoch in walk for row in _model_rows(name, epoch, found)))


def distances(source: Source, **only: Unpack[Only]) -> DataFrame:
    """One row an ordered pair of models of one shape that were measured in these epochs, of each hotkey the newest."""
    by_competition = _by_competition(_walk(source, **only))
    return _frame("distances", (row for place, epochs in by_competition.items() for row in _pair_rows(*place, epochs)))


def scores(source: Source, **only: Unpack[Only]) -> DataFrame:
    """One row a model and task."""
    return _frame("scores", _each(_score_rows, _walk(source, **only)))


def samples(source: Source, *, task: str | None = None, hotkey: str | None = None, **only: Unpack[Only]) -> DataFrame:
    """One row a model and sample. task, hotkey: only those."""
    walk = _walk(source, **only)
    return _frame("samples", (row for name, epoch in walk for row in _sample_rows(name, epoch, task, hotkey)))


def submissions(source: Source, **only: Unpack[Only]) -> DataFrame:
    """One row a submission and epoch: evaluated or not, and why."""
    return _frame("submissions", _each(_submission_rows, _walk(source, **only)))


def duels(source: Source, **only: Unpack[Only]) -> DataFrame:
    """One row an ordered pair of models with a score: who beats whom."""
    return _frame("duels", _each(_duel_rows, _walk(source, **only)))


def turns(source: Source, **only: Unpack[Only]) -> DataFrame:
    """One row a turn of the reign, in its order."""
    return _frame("turns", _each(_turn_rows, _walk(source, **only)))


def faults(source: Source, **only: Unpack[Only]) -> DataFrame:
    """One row a fault: of models, of submissions that were set aside, and what stopped an epoch, undecided ones too."""
    walk = _walk(source, undecided=True, **only)
    return _frame("faults", _each(_fault_rows, walk))


def weights(source: Source, **only: Unpack[Only]) -> DataFrame:
    """One row a miner and epoch with a weight, in the moving average or on the chain.

    Averages are folded over all epochs of a competition, whatever is shown of them.
    """
    shown = {(name, epoch.folder) for name, epoch in _walk(source, **only)}

    def rows() -> Iterator[Row]:
        average: dict[tuple[str, int], dict[str, float]] = {}
        for name, epoch in _walk(source, competition=only.get("competition"), until=only.get("until")):
            place = name, epoch.competition_id
            alpha = epoch.manifest.figures.alpha
            average[place] = incentive.moving_average(average.get(place), epoch.decision.winner, alpha)
            if (name, epoch.folder) in shown:
                yield from _weight_rows(name, epoch, average[place])

    return _frame("weights", rows())


def _walk(
    source: Source,
    *,
    competition: int | None = None,
    since: int = 0,
    until: int | None = None,
    last: int | None = None,
    undecided: bool = False,
) -> Iterator[tuple[str, Epoch]]:
    """(validator, epoch) in the order of validators, competitions, sync blocks. Raises ConfigError for no records."""
    if isinstance(source, Epoch):
        yield "", source
        return
    named = source if isinstance(source, Mapping) else {"": source}
    for name, given in named.items():
        records = given if isinstance(given, Records) else Records(Path(given))
        if isinstance(given, str) and "://" in given:
            raise ConfigError(f"{given} is read first: give sn37.open_records({given!r})")
        if not records.competitions():
            raise ConfigError(f"there are no records in {records.root}; expected a validator's folder `records`")
        for competition_id in records.competitions():
            if competition in (None, competition_id):
                found = records.sealed(competition_id)
                if undecided:
                    found = [*found, *(epoch for epoch in records.open() if epoch.competition_id == competition_id)]
                within = [e for e in found if since <= e.sync_block and (until is None or e.sync_block <= until)]
                within.sort(key=lambda epoch: epoch.sync_block)
                yield from ((name, epoch) for epoch in (within if last is None else within[-last:] if last else []))


def _by_competition(walk: Iterable[tuple[str, Epoch]]) -> dict[tuple[str, int], list[Epoch]]:
    """The epochs of each validator and competition."""
    found: dict[tuple[str, int], list[Epoch]] = {}
    for name, epoch in walk:
        found.setdefault((name, epoch.competition_id), []).append(epoch)
    return found


def _each(rows: Callable[[str, Epoch], Iterator[Row]], walk: Iterable[tuple[str, Epoch]]) -> Iterator[Row]:
    for name, epoch in walk:
        yield from rows(name, epoch)


def _frame(kind: str, rows: Iterable[Row]) -> DataFrame:
    import pandas

    return pandas.DataFrame(list(rows), columns=list(COLUMNS[kind]))


def _place(name: str, epoch: Epoch) -> Row:
    return {"validator": name, "competition_id": epoch.competition_id, "sync_block": epoch.sync_block}


def _who(hotkey: str, uid: int, block: int, text: str) -> Row:
    return {"hotkey": hotkey, "uid": uid, "block": block, "repo": _repo(text)}


@lru_cache(maxsize=65_536)
def _repo(text: str) -> str:
    """The repo that a commitment names; a submission comes back in every epoch."""
    model = Submission.read("", 0, 0, text).model
    return model.repo if model else ""


def _uids(decision: Decision) -> dict[str, int]:
    return {score.hotkey: score.uid for score in decision.scores}


def _epoch_row(name: str, epoch: Epoch) -> Row:
    manifest, decision = epoch.manifest, epoch.decision
    best = decision.best
    return {
        **_place(name, epoch),
        "competition": manifest.competition.name,
        "time": manifest.as_of,
        "seed": str(manifest.seed),
        "winner": decision.winner or "",
        "winner_uid": None if best is None else best.uid,
        "winner_score": None if best is None else best.score,
        "evaluated": sum(score.score is not None for score in decision.scores),
        "failed": sum(score.fault is not None for score in decision.scores),
        "set_aside": len(decision.set_aside),
        "samples": sum(data.samples for data in manifest.data.values()),
        "data_s": math.fsum(data.seconds for data in manifest.data.values()),
        "load_s": math.fsum(load_s for load_s, _ in decision.timings.values()),
        "compute_s": math.fsum(compute_s for _, compute_s in decision.timings.values()),
        "device": ", ".join(manifest.ran.get("device", ())),
    }


def _pair_rows(name: str, competition_id: int, epochs: Sequence[Epoch]) -> Iterator[Row]:
    for one, other, apart in copies.pairs(epochs):
        yield {
            "validator": name,
            "competition_id": competition_id,
            "hotkey": one.hotkey,
            "uid": one.uid,
            "block": one.block,
            "other_hotkey": other.hotkey,
            "other": other.uid,
            "other_block": other.block,
            "distance": apart,
        }


def _model_rows(name: str, epoch: Epoch, found: Mapping[tuple[str, int], Mapping[Key, copies.Copy]]) -> Iterator[Row]:
    place, decision, copied = _place(name, epoch), epoch.decision, found[name, epoch.competition_id]
    reigned = {turn.hotkey for turn in decision.reign if turn.succeeds}
    for score in decision.scores:
        copy = copied.get((score.hotkey, score.text))
        yield {
            **place,
            **_who(score.hotkey, score.uid, score.block, score.text),
            "score": score.score,
            "epsilon": score.epsilon,
            "wins": decision.wins.get(score.hotkey),
            "win_rate": decision.win_rate.get(score.hotkey),
            "reigned": score.hotkey in reigned,
            "winner": score.hotkey == decision.winner,
            "fault": score.fault.reason if score.fault else "",
            "copy_of": copy.hotkey if copy else "",
            "copy_distance": copy.distance if copy else None,
        }


def _score_rows(name: str, epoch: Epoch) -> Iterator[Row]:
    weight = {task.name: task.weight for task in epoch.manifest.competition.tasks}
    for score in epoch.decision.scores:
        who = _who(score.hotkey, score.uid, score.block, score.text)
        for task, raw in score.raw.items():
            normalized = score.normalized[task]
            measured = {"raw": raw, "normalized": normalized, "weighted": weight[task] * normalized}
            yield {**_place(name, epoch), **who, "task": task, "weight": weight[task], **measured}


def _sample_rows(name: str, epoch: Epoch, task: str | None, hotkey: str | None) -> Iterator[Row]:
    results = [result for result in epoch.results.values() if hotkey in (None, result.hotkey)]
    for wanted in epoch.manifest.competition.tasks:
        if task in (None, wanted.name):
            drawn = epoch.samples(wanted.name)
            for result in sorted(results, key=lambda result: (result.block, result.uid)):
                if wanted.name in result.tasks:
                    start = {**_place(name, epoch), **_of_result(result), "task": wanted.name}
                    yield from ({**start, **row} for row in task_rows(result.tasks[wanted.name], drawn))


def _of_result(result: Result) -> Row:
    return _who(result.hotkey, result.uid, result.block, result.text)


def _submission_rows(name: str, epoch: Epoch) -> Iterator[Row]:
    place = _place(name, epoch)
    for pick in epoch.manifest.submissions:
        who = pick.submission
        yield {
            **place,
            **_who(who.hotkey, who.uid, who.block, who.text),
            "text": who.text,
            "evaluated": pick.evaluate,
            "why": pick.why,
        }


def _duel_rows(name: str, epoch: Epoch) -> Iterator[Row]:
    decision, competition = epoch.decision, epoch.manifest.competition
    alive = [contender for score in decision.scores if (contender := score.contender) is not None]
    for i in alive:
        for j in alive:
            if i is not j:
                yield {
                    **_place(name, epoch),
                    "hotkey": i.hotkey,
                    "uid": i.uid,
                    "opponent_hotkey": j.hotkey,
                    "opponent": j.uid,
                    "beats": j.hotkey in decision.beats[i.hotkey],
                    "margin": incentive.margin(i, j, competition.epsilon, epoch.sync_block),
                }


def _turn_rows(name: str, epoch: Epoch) -> Iterator[Row]:
    decision = epoch.decision
    by_hotkey = {score.hotkey: score for score in decision.scores}
    for place, turn in enumerate(decision.reign):
        score = by_hotkey[turn.hotkey]
        yield {
            **_place(name, epoch),
            "turn": place,
            "hotkey": turn.hotkey,
            "uid": score.uid,
            "block": score.block,
            "score": score.score,
            "incumbent": turn.incumbent or "",
            "needed": math.inf if turn.needed is None else turn.needed,
            "succeeds": turn.succeeds,
            "difference": turn.difference.estimate if turn.difference else None,
            "low": turn.difference.low if turn.difference else None,
            "high": turn.difference.high if turn.difference else None,
        }


def _fault_rows(name: str, epoch: Epoch) -> Iterator[Row]:
    place = _place(name, epoch)
    if epoch.sealed:
        for score in epoch.decision.scores:
            if score.fault is not None:
                told = {"owner": score.fault.owner, "stage": "evaluate", "reason": score.fault.reason}
                yield {**place, "hotkey": score.hotkey, **told}
        for hotkey, reason in epoch.decision.set_aside.items():
            yield {**place, "hotkey": hotkey, "owner": "submission", "stage": "fetch", "reason": reason}
    stopped = epoch.read(StageFault)
    if stopped is not None:
        yield {**place, "hotkey": "", "owner": stopped.owner, "stage": stopped.stage, "reason": stopped.reason}


def _weight_rows(name: str, epoch: Epoch, average: Mapping[str, float]) -> Iterator[Row]:
    published = epoch.read(Publication)
    on_chain = published.weights if published else {}
    uids = {**epoch.manifest.uids, **(published.uids if published else {}), **_uids(epoch.decision)}
    for hotkey in sorted({*average, *on_chain}):
        yield {
            **_place(name, epoch),
            "hotkey": hotkey,
            "uid": uids.get(hotkey),
            "average": average.get(hotkey, 0.0),
            "weight": on_chain.get(hotkey, 0.0) if published else None,
        }
