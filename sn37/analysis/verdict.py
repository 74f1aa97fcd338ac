"""What became of one submission in an epoch and why, in a sentence: at which stage, by which rule, whose fault.

A pure function of records. It repeats what the decision says and works out only what would have been: with the block
of an earlier commitment, without one task. Knows nothing of figures, and trusts the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Literal

from sn37.analysis.copies import Copy
from sn37.analysis.outcomes import convincing
from sn37.clock import picked_up
from sn37.competition import Competition
from sn37.errors import Owner
from sn37.incentive import reign
from sn37.records.decision import Decision, Score, Turn
from sn37.records.epochs import Epoch
from sn37.records.faults import printable
from sn37.records.manifest import Pick
from sn37.submission import Commitment

__all__ = ["Cause", "Verdict", "commitment_of", "gaps", "pick_of", "score_of", "seniority_lost", "verdict"]

Cause = Literal[
    "won",
    "overtaken",
    "seniority",
    "copy",
    "epsilon",
    "significance",
    "task",
    "loss",
    "model",
    "set aside",
    "late",
    "malformed",
    "not evaluated",
    "absent",
]


@dataclass(frozen=True, repr=False)
class Verdict:
    """What became of a submission in an epoch."""

    stage: Literal["plan", "fetch", "evaluate", "decide"]
    """The stage of the epoch that settled it."""
    cause: Cause
    """Why: it `won`; it reigned and was `overtaken`; it lost its `seniority` by committing again; it is a `copy`; it is
    better than the winner by less than `epsilon`, or not beyond chance where the competition asks for `significance`;
    one `task` alone put it behind; its `loss` is too high; its `model` is at fault; it could not be had and was `set
    aside`; it was committed too `late`, is `malformed`, was `not evaluated` for another reason; it is `absent`: nothing
    was committed to this competition."""
    owner: Owner | None
    """Whose fault it is; None where the rules decided and nothing was wrong."""
    sentence: str
    """All of it in one sentence about the submission, without its name: "lost to uid 4 ..."."""

    def __str__(self) -> str:
        owner = {"model": "the miner's", "submission": "its repo's"}.get(self.owner or "", "nobody's")
        return printable(f"{self.sentence} (stage: {self.stage}; fault: {owner})")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


def verdict(epoch: Epoch, hotkey: str, past: Sequence[Epoch] = (), copy: Copy | None = None) -> Verdict:
    """What became of a hotkey's submission in a decided epoch.

    past: earlier epochs of the competition, oldest first; copy: the nearest earlier submission.
    """
    decision = epoch.decision
    if hotkey in decision.set_aside:
        reason = f"could not be had: {decision.set_aside[hotkey]}; it neither won nor lost and is tried again"
        return Verdict("fetch", "set aside", "submission", reason)
    mine = score_of(decision, hotkey)
    if mine is None:
        return _unplanned(epoch, hotkey, past, copy)
    if mine.fault is not None:
        result = epoch.result(hotkey)
        fetched = result is None or bool(result.content_hash)
        tried = [one for each in past if (one := score_of(each.decision, hotkey)) and one.text == mine.text]
        known = tried[max(0, len(tried) + 1 - epoch.manifest.limits.remembered) :]
        failed = any(one.fault for one in known)
        then = "not tried again until its text changes" if failed else "it is tried once more"
        text = f"failed{' again' if failed else ''}: {mine.fault.reason}; {then}"
        return Verdict("evaluate" if fetched else "fetch", "model", mine.fault.owner, text)
    return _decided(epoch, mine, past, copy)


def score_of(decision: Decision, hotkey: str) -> Score | None:
    """A hotkey's score in a decision; None where it was not evaluated."""
    return next((score for score in decision.scores if score.hotkey == hotkey), None)


def pick_of(epoch: Epoch, hotkey: str) -> Pick | None:
    """What was planned for a hotkey's submission; None where it had none to the competition."""
    return next((pick for pick in epoch.manifest.submissions if pick.submission.hotkey == hotkey), None)


def commitment_of(epoch: Epoch, hotkey: str) -> Commitment | None:
    """What a hotkey had committed to the competition at an epoch."""
    pick = pick_of(epoch, hotkey)
    return score_of(epoch.decision, hotkey) if pick is None else pick.submission


def gaps(competition: Competition, mine: Score, other: Score) -> dict[str, float]:
    """What each task adds to the difference of two scores: above 0 `mine` is behind in it, largest first."""
    found = {t.name: t.weight * (mine.normalized[t.name] - other.normalized[t.name]) for t in competition.tasks}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _unplanned(epoch: Epoch, hotkey: str, past: Sequence[Epoch], copy: Copy | None) -> Verdict:
    """Of a submission that was not evaluated."""
    pick, manifest, sync_block = pick_of(epoch, hotkey), epoch.manifest, epoch.sync_block
    if pick is None:
        text = f"had no submission to competition {epoch.competition_id} at sync block {sync_block}"
        return Verdict("plan", "absent", "model", text)
    block, delay = pick.submission.block, manifest.competition.constraints.delay_blocks
    if pick.submission.model is None:
        return Verdict("plan", "malformed", "model", f"was not evaluated: {pick.why}")
    if not picked_up(block, delay, sync_block):
        first = manifest.clock.first_epoch(block, delay)
        elder = _first_commitment(past, pick.submission)
        again = f"; it had stood since block {elder.block} and was committed again" if elder else ""
        text = f"was {pick.why}; the first sync block that takes it is {first}{again}"
        return Verdict("plan", "late", "model", text)
    for place, earlier in reversed(list(enumerate(past))):
        known = score_of(earlier.decision, hotkey)
        if known is not None and known.text == pick.submission.text:
            found = verdict(earlier, hotkey, past[:place], copy)
            text = f"was not evaluated: {pick.why}; at sync block {earlier.sync_block} it {found.sentence}"
            return replace(found, stage="plan", sentence=text)
    return Verdict("plan", "not evaluated", None, f"was not evaluated: {pick.why}")


def _decided(epoch: Epoch, mine: Score, past: Sequence[Epoch], copy: Copy | None) -> Verdict:
    """Of a submission with a score."""
    decision, competition = epoch.decision, epoch.manifest.competition
    if decision.winner == mine.hotkey:
        return Verdict("decide", "won", None, f"won with the loss {mine.score:.6g}{_lead(decision, mine)}")
    turn = next((turn for turn in decision.reign if turn.hotkey == mine.hotkey), None)
    if turn is None or turn.incumbent is None or turn.succeeds:
        return Verdict("decide", "overtaken", None, _overtaken(decision, mine))
    incumbent = score_of(decision, turn.incumbent)
    assert incumbent is not None and mine.score is not None and incumbent.score is not None
    elder = seniority_lost(epoch, mine, past)
    if elder is not None:
        why = f"lost its seniority: the same text was committed at block {elder.block} and again at {mine.block}, "
        why += f"after uid {incumbent.uid} at {incumbent.block}; as of block {elder.block} it would have won. It "
        return Verdict("decide", "seniority", "model", why + _lost(mine, incumbent, turn))
    if copy is not None and (copy.equal or (copy.near and mine.score >= incumbent.score)):
        why = f"{'has' if copy.equal else 'is'} {copy}, and {_lost(mine, incumbent, turn)}"
        return Verdict("decide", "copy", "model", why)
    if turn.needed is not None and mine.score < turn.needed:
        return Verdict("decide", "significance", None, _not_beyond_chance(mine, incumbent, turn))
    if mine.score < incumbent.score:
        return Verdict("decide", "epsilon", None, _lost(mine, incumbent, turn))
    behind = gaps(competition, mine, incumbent)
    worst, most = next(iter(behind.items()))
    raw = f"raw {mine.raw[worst]:.4g} against {incumbent.raw[worst]:.4g}"
    if len(behind) > 1 and sum(behind.values()) - most <= 0 < most:
        why = f"; {worst} alone puts it behind, by {most:.4g} ({raw}): on the other tasks together it is no worse"
        return Verdict("decide", "task", None, _lost(mine, incumbent, turn) + why)
    why = f"; most of it comes from {worst}: {most:.4g} ({raw})" if most > 0 else ""
    return Verdict("decide", "loss", None, _lost(mine, incumbent, turn) + why)


def _lost(mine: Score, incumbent: Score, turn: Turn) -> str:
    """How a turn was lost, in numbers."""
    assert mine.score is not None and incumbent.score is not None and turn.needed is not None
    asked = f"{incumbent.score:.6g} x (1 - {incumbent.epsilon:.4g}) = {turn.needed:.6g} was needed"
    if not incumbent.score:
        return f"lost to uid {incumbent.uid}: {mine.score:.6g}, where less than {asked}"
    by = mine.score / incumbent.score - 1
    if by < 0:
        return (
            f"lost to uid {incumbent.uid} by epsilon: {mine.score:.6g} is {-by:.2%} better, but less than {asked}, "
            f"{incumbent.epsilon:.2%} better"
        )
    how = f"by {by:.2%}: {mine.score:.6g}" if by else f"with an equal loss: {mine.score:.6g}"
    return f"lost to uid {incumbent.uid} {how}, where less than {asked}"


def _not_beyond_chance(mine: Score, incumbent: Score, turn: Turn) -> str:
    """How a turn was lost that epsilon alone would have let win."""
    found = turn.difference
    interval = "" if found is None or found.high is None else f", up to {found.high:+.6g} at {found.level:.0%}"
    told = "" if found is None else f": the difference is {found.estimate:+.6g}{interval}"
    return (
        f"lost to uid {incumbent.uid} by significance: {mine.score:.6g} is below the {turn.needed:.6g} needed, "
        f"but not beyond chance{told}, and this competition asks for that"
    )


def _overtaken(decision: Decision, mine: Score) -> str:
    """Who took over from a submission that reigned."""
    taken = next((turn for turn in decision.reign if turn.incumbent == mine.hotkey and turn.succeeds), None)
    by = score_of(decision, taken.hotkey) if taken else decision.best
    if by is None or taken is None:
        return f"did not win with the loss {mine.score:.6g}"
    return (
        f"reigned with the loss {mine.score:.6g} until uid {by.uid} took over: its {by.score:.6g} is below "
        f"{mine.score:.6g} x (1 - {mine.epsilon:.4g}) = {taken.needed:.6g}"
    )


def _lead(decision: Decision, mine: Score) -> str:
    second = next((one for one in decision.scores if one.hotkey != mine.hotkey), None)
    if second is None or second.score is None or mine.score is None:
        return ""
    return f"; the best of the others, uid {second.uid}, has {second.score:.6g}"


def _first_commitment(past: Sequence[Epoch], now: Commitment) -> Commitment | None:
    """An earlier commitment of the same text by the same hotkey, the first known; None where it stands as it was."""
    picks = (pick_of(epoch, now.hotkey) for epoch in past)
    stood = (pick.submission for pick in picks if pick is not None)
    return next((one for one in stood if one.text == now.text and one.block < now.block), None)


def seniority_lost(epoch: Epoch, mine: Score, past: Sequence[Epoch]) -> Commitment | None:
    """The earlier commitment of the same text with whose block a submission would have won; None where it would not."""
    elder = _first_commitment(past, mine)
    if elder is None:
        return None
    scores = [replace(one, block=elder.block) if one.hotkey == mine.hotkey else one for one in epoch.decision.scores]
    contenders = [contender for one in scores if (contender := one.contender) is not None]
    won = reign(contenders, epoch.manifest.competition.epsilon, epoch.sync_block, convincing(epoch)).winner
    return elder if won == mine.hotkey else None
