"""Who is evaluated in an epoch: a pure function of the chain at the sync block and the records.

Protocol, section 8, last part. Knows nothing of models, files or the network.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sn37.clock import picked_up
from sn37.competition import Competition, Epsilon
from sn37.incentive import Contender, beats
from sn37.protocol import SelectionLimits
from sn37.records.history import History, Key, Tried
from sn37.records.recall import Pick
from sn37.schedule import Schedule
from sn37.submission import Submission

__all__ = ["kept", "pick", "sort_out"]


def kept(past: History, able: Iterable[Submission], count: int) -> list[Key]:
    """The submissions kept from earlier epochs: the reigning winner, then the best of those with a known score.

    Only those that stand now count; lower is better, equal scores in the order of block, then uid.
    """
    known = []
    for submission in able:
        key = submission.hotkey, submission.text
        last = past.tried.get(key, ())[-1:]
        if last and not last[0].failed:
            known.append((key != past.incumbent, last[0].score, submission.block, submission.uid, key))
    return [key for *_, key in sorted(known)[:count]]


def sort_out(
    submissions: Iterable[Submission], competition: Competition, schedule: Schedule, sync_block: int
) -> tuple[list[Submission], list[Pick]]:
    """Split the submissions: those that may take part in the competition now, and the rest with the reason.

    Submissions to other competitions appear in neither list.
    """
    able: list[Submission] = []
    unable: list[Pick] = []
    for submission in submissions:
        if submission.model is None:
            unable.append(Pick(submission, False, submission.fault))
            continue
        wanted = submission.model.competition_id
        wanted = schedule.default_id if wanted is None else wanted
        if wanted != competition.id:
            if schedule.competition(wanted, sync_block) is None:
                unable.append(Pick(submission, False, f"competition {wanted} is not scheduled at block {sync_block}"))
            continue
        delay = competition.constraints.delay_blocks
        if schedule.competition(wanted, submission.block) is None:
            reason = f"competition {wanted} was not scheduled at the commitment's block {submission.block}"
            unable.append(Pick(submission, False, reason))
        elif not picked_up(submission.block, delay, sync_block):
            reason = f"committed too late: block {submission.block} + delay {delay} > sync block {sync_block}"
            unable.append(Pick(submission, False, reason))
        else:
            able.append(submission)
    return able, unable


def pick(
    able: Sequence[Submission],
    past: History,
    weighted_by_others: Collection[str],
    epsilon: Epsilon,
    sync_block: int,
    *,
    most: int,
    limits: SelectionLimits,
) -> list[Pick]:
    """Which of the able submissions are evaluated: kept, then new (oldest first), retries, others' favourites.

    able: from `sort_out`; weighted_by_others: hotkeys that large validators weight; most: the limit of models in one
    epoch. Every able submission appears once.
    """
    groups: dict[str, list[Submission]] = {"kept": [], "new": [], "again": [], "weighted by others": []}
    idle: list[Pick] = []
    stay = kept(past, able, limits.kept)
    holder = next((_contender(s, past) for s in able if _key(s) == past.incumbent), None)
    for submission in sorted(able, key=lambda s: (s.block, s.uid)):
        tried = past.tried.get(_key(submission), ())
        if _key(submission) in stay:
            groups["kept"].append(submission)
        elif not tried:
            groups["new"].append(submission)
        elif _due(submission, past, holder, epsilon, sync_block):
            groups["again"].append(submission)
        elif submission.hotkey in weighted_by_others and sync_block - tried[-1].sync_block >= limits.recheck_blocks:
            groups["weighted by others"].append(submission)
        else:
            idle.append(Pick(submission, False, _idle_reason(tried)))
    groups["kept"].sort(key=lambda submission: stay.index(_key(submission)))
    ranked = [(submission, why) for why, group in groups.items() for submission in group]
    chosen = [Pick(submission, True, why) for submission, why in ranked[:most]]
    waiting = [Pick(submission, False, f"waits: {most} models an epoch, {why}") for submission, why in ranked[most:]]
    return chosen + waiting + idle


def _key(submission: Submission) -> Key:
    return submission.hotkey, submission.text


def _contender(submission: Submission, past: History) -> Contender:
    return Contender(submission.hotkey, submission.uid, submission.block, past.tried[_key(submission)][-1].score)


def _due(submission: Submission, past: History, holder: Contender | None, epsilon: Epsilon, now: int) -> bool:
    tried = past.tried[_key(submission)]
    if tried[-1].failed:
        return sum(t.failed for t in tried) == 1
    if holder is None or holder.hotkey == submission.hotkey or tried[-1].score > holder.score:
        return False
    return beats(_contender(submission, past), holder, epsilon, now)


def _idle_reason(tried: Sequence[Tried]) -> str:
    if tried[-1].failed:
        return "failed twice: not tried again until its text changes"
    return f"evaluated at sync block {tried[-1].sync_block} and did not win: not tried again until it could"
