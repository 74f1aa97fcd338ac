"""Why a submission lost, or won, from records alone: words first, then numbers, samples and the way there.

    explain("validator/records", 5)

Reads a validator's records, or what others have published of theirs; what is missing there is left out. Knows nothing
of the chain, a GPU or torch. Losses and scores: lower is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from sn37 import incentive
from sn37.analysis import copies, drawing, figures, frames, stats
from sn37.analysis.copies import Copy
from sn37.analysis.outcomes import convincing, task_pair
from sn37.analysis.timeline import Event, timeline
from sn37.analysis.verdict import Verdict, commitment_of, gaps, score_of, verdict
from sn37.clock import BLOCKS_PER_DAY
from sn37.competition import Competition, InverseExponential
from sn37.errors import ConfigError
from sn37.html import table
from sn37.incentive import Contender, FirstWin
from sn37.records.decision import Score
from sn37.records.epochs import Epoch, Records
from sn37.records.faults import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["Explanation", "explain"]

_MOST_EPOCHS = 50
"""So many epochs of a competition are looked back."""
_AHEAD = {"now": 0, "in a day": BLOCKS_PER_DAY, "in a week": 7 * BLOCKS_PER_DAY}
"""When a score is looked at again, in blocks from the epoch on."""
_TITLES = (
    "from the other's score to this one's (difference: above 0 this one is behind)",
    "is the difference real? (95 % intervals, paired by sample, clustered by group)",
)
_SHOWN = 3
"""So many of the costliest samples are shown ..."""
_CHARACTERS = 200
"""... and of each text so much."""


@dataclass(frozen=True, repr=False)
class Explanation:
    """What became of a submission and why; `print` it, or show it in Jupyter with its figures."""

    epoch: Epoch
    """The epoch that is explained."""
    hotkey: str
    """Whose submission."""
    uid: int
    """Its uid then."""
    verdict: Verdict
    """What became of it, in a sentence."""
    copy: Copy | None
    """The nearest earlier submission by its weights; None where the records cannot tell."""
    past: tuple[Epoch, ...]
    """The epochs before, oldest first, as far back as was looked."""

    @property
    def competition(self) -> Competition:
        """The competition as it ran."""
        return self.epoch.manifest.competition

    @cached_property
    def measured(self) -> Epoch:
        """The epoch whose numbers are shown: the newest in which the same text has a score, else the one explained."""
        mine = commitment_of(self.epoch, self.hotkey)
        for epoch in (self.epoch, *reversed(self.past)):
            score = score_of(epoch.decision, self.hotkey)
            if score is not None and score.score is not None and mine is not None and score.text == mine.text:
                return epoch
        return self.epoch

    @property
    def mine(self) -> Score | None:
        """The submission's score in the epoch `measured`; None where it has none."""
        score = score_of(self.measured.decision, self.hotkey)
        return None if score is None or score.score is None else score

    @property
    def rival(self) -> Score | None:
        """Whom it is compared with there: the winner, or the best of the others where it won itself."""
        decision = self.measured.decision
        others = [score for score in decision.scores if score.hotkey != self.hotkey and score.score is not None]
        return next((score for score in others if score.hotkey == decision.winner), others[0] if others else None)

    @property
    def reign(self) -> str:
        """Who reigned one after the other, and where the submission stood, in a line."""
        said = []
        for turn in self.measured.decision.reign:
            score = score_of(self.measured.decision, turn.hotkey)
            if score is not None and (turn.succeeds or turn.hotkey == self.hotkey):
                name = f"uid {score.uid} {score.score:.6g}"
                said.append(name if turn.succeeds else f"({name}: less than {turn.needed:.6g} was needed)")
        return " > ".join(said) or "nobody has a score"

    @cached_property
    def tasks(self) -> DataFrame:
        """From the rival's score to mine, one row a task, the costliest first.

        Columns: task, weight, raw and rival_raw, normalized and rival_normalized, difference (weight x the difference
        of the normalized scores: above 0 mine is behind; they add up to the difference of the scores), clipped (how
        much of my raw score lies above the normalization's ceiling and does not count).
        """
        import pandas

        rows, mine, rival = [], self.mine, self.rival
        if mine is not None and rival is not None:
            tasks = {task.name: task for task in self.measured.manifest.competition.tasks}
            for name, difference in gaps(self.measured.manifest.competition, mine, rival).items():
                normalization = tasks[name].normalization
                ceiling = normalization.ceiling if isinstance(normalization, InverseExponential) else math.inf
                scores = [of[name] for of in (mine.raw, rival.raw, mine.normalized, rival.normalized)]
                rows.append((name, tasks[name].weight, *scores, difference, max(0.0, mine.raw[name] - ceiling)))
        columns = ("task", "weight", "raw", "rival_raw", "normalized", "rival_normalized", "difference", "clipped")
        return pandas.DataFrame(rows, columns=list(columns))

    @cached_property
    def differences(self) -> DataFrame:
        """Is the difference real? One row a task, and "all" for the score; none where the record has no results.

        Columns: task, difference (mine less the rival's: above 0 mine is behind), low and high (95 %, paired by sample,
        clustered by group), p_value (corrected for the number of tasks by Holm's method), real, smallest (the smallest
        true difference that so many samples show four times out of five).
        """
        import pandas

        found = {
            name: stats.paired_difference(one.first, one.second, one.groups, counts=one.counts)
            for name, one in self._pairs.items()
        }
        if found:
            found["all"] = stats.score_difference(self._pairs, seed=self.measured.sync_block)
        rows = []
        for one in stats.compare(found):
            interval, error = one.difference, one.difference.standard_error
            smallest = stats.smallest_difference(error, 1) if math.isfinite(error) else math.inf
            rows.append((one.name, interval.estimate, interval.low, interval.high, one.p_value, one.real, smallest))
        columns = ("task", "difference", "low", "high", "p_value", "real", "smallest")
        return pandas.DataFrame(rows, columns=list(columns))

    @cached_property
    def samples(self) -> DataFrame:
        """Every sample beside the rival's outcome, the costliest first; none where the record has no results.

        Columns: task, sample, cost (what it adds to the difference of the scores: above 0 mine is behind), prompt,
        reference, value (the loss), reply, taken (what the parser took of it), rival_value, rival_reply, rival_taken.
        """
        import pandas

        compared = ["value", "reply", "taken"]
        columns = ["task", "sample", "cost", "prompt", "reference", *compared, *(f"rival_{name}" for name in compared)]
        parts = [pandas.DataFrame(columns=columns)]
        for name, pair in self._pairs.items():
            assert self.rival is not None  # or there were no pairs
            mine, theirs = (
                frames.samples(self.measured, task=name, hotkey=hotkey) for hotkey in (self.hotkey, self.rival.hotkey)
            )
            theirs = theirs[["sample", *compared]].rename(columns={each: f"rival_{each}" for each in compared})
            both = mine.merge(theirs, on="sample")
            counts = pandas.Series(pair.counts, index=both.index, dtype=float)
            # What a unit of raw loss costs: the weight, and how steep normalization is between the two scores.
            (task,) = self.tasks[self.tasks["task"] == name].to_dict("records")
            apart = task["raw"] - task["rival_raw"]
            steep = task["difference"] / apart if apart else task["weight"]
            both["cost"] = steep * counts / counts.sum() * (both["value"] - both["rival_value"])
            parts.append(both[columns])
        found = pandas.concat(parts[1:] or parts)
        return found.sort_values("cost", ascending=False, kind="stable").reset_index(drop=True)

    @property
    def _costly(self) -> DataFrame:
        """The samples that put this one behind most."""
        return self.samples[self.samples["cost"] > 0].head(_SHOWN)

    @property
    def _pairs(self) -> dict[str, stats.TaskPair]:
        """My values and the rival's of each task, as far as the record has them."""
        results, rival = self.measured.results, self.rival
        found: dict[str, stats.TaskPair] = {}
        for task in self.measured.manifest.competition.tasks:
            both = [results[one].tasks for one in (self.hotkey, rival.hotkey if rival else "") if one in results]
            if len(both) == 2 and all(task.name in each for each in both):
                drawn = self.measured.samples(task.name)
                found[task.name] = task_pair(task, both[0][task.name], both[1][task.name], drawn)
        return found

    @property
    def _contenders(self) -> list[Contender]:
        """The scores known last of what stands at the epoch explained: those measured in it, and mine."""
        found = {score.hotkey: contender for score in self.epoch.decision.scores if (contender := score.contender)}
        standing = commitment_of(self.epoch, self.hotkey)
        if self.mine is not None and self.mine.score is not None and standing is not None:
            found[self.hotkey] = Contender(self.hotkey, standing.uid, standing.block, self.mine.score)
        return list(found.values())

    @cached_property
    def _convinces(self) -> Callable[[Contender, Contender], bool]:
        return convincing(self.epoch)

    @cached_property
    def first_win(self) -> FirstWin:
        """The first sync block from the epoch on at which this score wins, if nobody's changes; None and why: never."""
        everybody, epsilon, since = self._contenders, self.competition.epsilon, self.epoch.sync_block
        by_hotkey = {one.hotkey: one for one in everybody}
        mine, winner = (by_hotkey.get(hotkey or "") for hotkey in (self.hotkey, self.epoch.decision.winner))
        if mine is None:
            return FirstWin(None, "it has no score")
        while (block := incentive.first_reign(self.hotkey, everybody, epsilon, since, self._convinces)) is not None:
            since = self.epoch.manifest.clock.first_epoch(block, 0)
            if since == block:
                return FirstWin(block, "")
        duel = incentive.first_win(mine, winner or mine, epsilon, self.epoch.sync_block)
        if duel.block is not None and winner is not None and not self._convinces(mine, winner):
            return FirstWin(None, f"it is not better than uid {winner.uid} beyond chance, as this competition asks")
        return FirstWin(None, duel.why or "another one stands between it and the winner")

    @cached_property
    def needed(self) -> DataFrame:
        """What a later commitment has to be below to win, as epsilon decays and if nobody's score changes.

        Columns: when, block, needed (the loss), gain (by which share of its loss mine would have to fall; missing where
        it has none, or won).
        """
        found, score = self._needed(_AHEAD.values()), self.mine.score if self.mine else None
        found.insert(0, "when", list(_AHEAD)[: len(found)])
        lost = score and self.verdict.cause != "won"
        found["gain"] = (1 - found["needed"] / score).clip(lower=0) if score and lost else math.nan
        return found

    def _needed(self, ahead: Iterable[int]) -> DataFrame:
        """The loss that is needed so many blocks after the epoch; none where nobody reigns."""
        import pandas

        rows, epsilon = [], self.competition.epsilon
        for block in (self.epoch.sync_block + each for each in ahead):
            kings = incentive.reign(self._contenders, epsilon, block, self._convinces).takeovers
            rows += [(block, incentive.needed(king.contender, epsilon, block)) for king in kings[-1:]]
        return pandas.DataFrame(rows, columns=["block", "needed"])

    @cached_property
    def timeline(self) -> tuple[Event, ...]:
        """What happened to the miner's submissions, oldest first."""
        records = Records(self.epoch.folder.parent.parent)
        later = [epoch for epoch in records.open() if epoch.competition_id == self.epoch.competition_id]
        return timeline((*self.past, self.epoch), self.hotkey, later)

    @property
    def sentences(self) -> dict[str, str]:
        """What the numbers say, in a sentence each, by what it is about."""
        found = {"reign": self.reign}
        if len(self.differences):
            found["real?"] = self._chance()
        found["epsilon"] = self._epsilon()
        found["copies"] = str(self.copy) if self.copy else "no earlier model to compare with is known"
        return found

    def _chance(self) -> str:
        """Whether the difference of the scores is real."""
        (whole,) = self.differences[self.differences["task"] == "all"].to_dict("records")
        if whole["low"] == whole["high"] == 0:
            return "there is no difference in any sample"
        share = f", {whole['smallest'] / self.mine.score:.2%} of the score" if self.mine and self.mine.score else ""
        if not all(pair.groups for pair in self._pairs.values()):
            share += "; the samples are not kept, so each counts as if it stood alone: true intervals may be wider"
        return (
            f"{'yes' if whole['real'] else 'it may be chance'}: {whole['difference']:+.4g} [{whole['low']:+.4g}, "
            f"{whole['high']:+.4g}]; so many samples show a difference of {whole['smallest']:.2g} or more{share}"
        )

    def _epsilon(self) -> str:
        """When the score wins, and what would."""
        ahead: dict[str, str] = {}
        for row in self.needed.to_dict("records"):
            gain = f" ({row['gain']:.2%} less than this)" if row["gain"] == row["gain"] else ""
            ahead.setdefault(f"{row['needed']:.6g}{gain}", row["when"])
        told = ", ".join(f"{needed} {when}" if len(ahead) > 1 else needed for needed, when in ahead.items())
        beyond = (
            "" if self.competition.significance is None else f" and beyond chance ({self.competition.significance:g})"
        )
        below = f"a later commitment wins below {told}{beyond}" if told else "any score wins"
        if self.mine is None or self.verdict.cause == "won":
            return below
        won = self.first_win.block
        return f"this score {f'wins from sync block {won} on' if won else f'never wins: {self.first_win.why}'}; {below}"

    def __str__(self) -> str:
        lines = [self._title, str(self.verdict), ""]
        lines += [f"{name:<8} {said}" for name, said in self.sentences.items()]
        for title, frame in zip(_TITLES, (self.tasks, self.differences), strict=True):
            if len(frame):
                lines += ["", title, frame.to_string(index=False, float_format="{:.4g}".format)]
        for row in self._costly.to_dict("records"):
            lines += [
                "",
                f"sample {row['sample']} of {row['task']} adds {row['cost']:+.3g}: {_cut(row['prompt'] or '')}",
            ]
            lines += [f"  reference  {_cut(row['reference'])}"] if row["reference"] else []
            for name, of in (("this one", ""), ("the other", "rival_")):
                reply, taken = row[f"{of}reply"], row[f"{of}taken"] or "nothing"
                said = f"; taken: {_cut(taken)}; reply: {_cut(reply)}" if reply else ""
                lines.append(f"  {name:<9}  loss {row[f'{of}value']:.4g}{said}")
        return "\n".join([*lines, "", *map(str, self.timeline)])

    @property
    def _title(self) -> str:
        epoch = self.epoch
        return (
            f"uid {self.uid} ({self.hotkey[:8]}) in competition {epoch.competition_id} {self.competition.name}, sync "
            f"block {epoch.sync_block}, {epoch.manifest.as_of:%Y-%m-%d %H:%M} UTC"
        )

    def waterfall(self) -> Axes:
        """Task by task from the rival's score to this one's, drawn."""
        ends = [(f"uid {one.uid}", one.score or 0.0) for one in (self.rival, self.mine) if one is not None]
        return figures.waterfall(self.tasks, *(ends if len(self.tasks) else ()))

    def epsilon_decay(self) -> Axes:
        """What a later commitment has to be below in the week to come, drawn, with this score beside it."""
        decay = self._needed(range(0, _AHEAD["in a week"] + 1, self.epoch.manifest.clock.cadence))
        return figures.epsilon_decay(decay, self.mine.score if self.mine else None)

    def __repr__(self) -> str:
        return f"{self._title}: {self.verdict}"

    def _repr_html_(self) -> str:
        parts = [f"<p>{escape(self._title)}</p><p><b>{escape(str(self.verdict))}</b></p>"]
        parts.append(table((), self.sentences.items()))
        if len(self.tasks):
            parts += [drawing.as_html(self.waterfall()), _html(self.tasks, _TITLES[0])]
            parts += [_html(self.differences, _TITLES[1]), _html(self._costly, "the costliest samples")]
        parts += [drawing.as_html(self.epsilon_decay())] if len(self.needed) else []
        events = [(event.block, f"{event.time:%Y-%m-%d %H:%M}", event.what) for event in self.timeline]
        return "".join([*parts, table(("block", "time (UTC)", "what happened"), events)])


def explain(
    records: Records | Path | str | Mapping[str, Records], who: int | str, epoch: int | None = None
) -> Explanation:
    """What became of a miner's submission, and why.

    records: one validator's records, or their folder. who: a uid, a hotkey or the beginning of one. epoch: a sync
    block; None: the newest epoch that the miner had a submission to. Raises ConfigError for nobody of that name, naming
    those there are; for records of several validators; where there is no record, or none of that sync block.

    >>> print(explain("validator/records", 5))
    """
    if isinstance(records, Mapping):
        raise ConfigError(f"these are records of {len(records)} validators ({', '.join(records)}); expected one's")
    found = records if isinstance(records, Records) else Records(Path(records))
    ids = found.competitions()
    if epoch is None:
        newest = [each for id in ids for each in found.sealed(id)[-_MOST_EPOCHS:]]
        newest.sort(key=lambda each: each.sync_block, reverse=True)
    else:
        newest = [each for id in ids for each in found.sealed(id) if each.sync_block == epoch]
    newest = newest or [found.epoch(0, epoch or 0)]  # raises, and says what there is
    chosen, hotkey, uid = _chosen(newest, str(who))
    past = tuple(found.sealed(chosen.competition_id, chosen.sync_block)[-_MOST_EPOCHS:])
    submission, known = commitment_of(chosen, hotkey), copies.measured((*past, chosen))
    mine = known.get((hotkey, submission.text)) if submission else None
    copy = None if mine is None else copies.nearest(mine, known.values())
    return Explanation(chosen, hotkey, uid, verdict(chosen, hotkey, past, copy), copy, past)


def _chosen(newest: Sequence[Epoch], who: str) -> tuple[Epoch, str, int]:
    """The newest epoch that this miner had a submission to, or just knows it; its hotkey and uid."""
    known: tuple[Epoch, str, int] | None = None
    for epoch in newest:
        picks = (pick.submission for pick in epoch.manifest.submissions)
        uids = {**epoch.manifest.uids, **{one.hotkey: one.uid for one in (*picks, *epoch.decision.scores)}}
        if known is None:
            named = [key for key, uid in uids.items() if (str(uid) == who if who.isdigit() else key.startswith(who))]
            known = (epoch, named[0], uids[named[0]]) if len(named) == 1 and who else None
        # From here on the hotkey counts: a uid may have been somebody else's before.
        if known is not None and commitment_of(epoch, known[1]) is not None:
            return epoch, known[1], uids[known[1]]
    if known is not None:
        return known
    there = sorted({pick.submission.uid for pick in newest[0].manifest.submissions})
    raise ConfigError(
        f"no miner {who!r} at sync block {newest[0].sync_block}; expected a hotkey or a uid with a submission: "
        f"{', '.join(map(str, there)) or 'there is none'}"
    )


def _cut(text: str) -> str:
    """A text as one short line."""
    return drawing.short(printable(" ".join(str(text).split())), _CHARACTERS)


def _html(frame: DataFrame, caption: str) -> str:
    return table(list(frame.columns), frame.itertuples(index=False), caption) if len(frame) else ""
