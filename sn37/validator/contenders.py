"""Who is evaluated in an epoch: a pure function of the chain at the sync block and the records.

Protocol, section 8, last part. Knows nothing of models, files or the network.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from sn37.clock import picked_up
from sn37.competition import Competition, Epsilon
from sn37.incentive import Contender, reign
from sn37.protocol import SelectionLimits
from sn37.records.history import History, Tried
from sn37.records.manifest import Pick
from sn37.schedule import Schedule
from sn37.submission import Submission

__all__ = ["decisive", "pick", "sort_out"]


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
    able: Iterable[Submission],
    past: History,
    weighted_by_others: Collection[str],
    epsilon: Epsilon,
    sync_block: int,
    *,
    most: int,
    limits: SelectionLimits,
) -> list[Pick]:
    """Which of the able submissions are evaluated, in the protocol's order; each of them appears once.

    able: from `sort_out`, one a hotkey; past: the competition's decided epochs; weighted_by_others: hotkeys that
    large validators weight; most: the limit of models in one epoch.
    """
    standing = {s.hotkey: s for s in sorted(able, key=lambda s: (s.block, s.uid))}
    tried = {hotkey: past.tried.get((hotkey, s.text), ()) for hotkey, s in standing.items()}
    known = [
        Contender(s.hotkey, s.uid, s.block, tried[s.hotkey][-1].score)
        for s in standing.values()
        if tried[s.hotkey] and not tried[s.hotkey][-1].failed
    ]
    incumbent = next((h for h, s in standing.items() if (h, s.text) == past.incumbent), None)
    kept = sorted(known, key=lambda c: (c.hotkey != incumbent, c.score, c.block, c.uid))[: limits.kept]
    groups: Mapping[str, Iterable[str]] = {
        "kept": (c.hotkey for c in kept),
        "decisive": (c.hotkey for c in decisive(known, kept, epsilon, sync_block)),
        "new": (hotkey for hotkey in standing if not tried[hotkey]),
        "again": (hotkey for hotkey in standing if _failed_once(tried[hotkey])),
        "weighted by others": (
            hotkey
            for hotkey in standing
            if hotkey in weighted_by_others
            and tried[hotkey]
            and sync_block - tried[hotkey][-1].sync_block >= limits.recheck_blocks
        ),
    }
    why: dict[str, str] = {}
    for group, hotkeys in groups.items():
        for hotkey in hotkeys:
            why.setdefault(hotkey, group)
    ranked = [(standing[hotkey], group) for hotkey, group in why.items()]
    chosen = [Pick(submission, True, group) for submission, group in ranked[:most]]
    waiting = [
        Pick(submission, False, f"waits: {most} models an epoch, {group}") for submission, group in ranked[most:]
    ]
    idle = [Pick(s, False, _idle_reason(tried[s.hotkey])) for s in standing.values() if s.hotkey not in why]
    return chosen + waiting + idle


def decisive(known: Sequence[Contender], kept: Sequence[Contender], epsilon: Epsilon, now: int) -> list[Contender]:
    """Who must be evaluated beside `kept` so that the winner is the one of a reign over all of `known`.

    known: the submissions that stand now, with the scores known last; kept: those of them evaluated anyway. That is
    who would win, and whoever stands between the winner and a kept model that would otherwise take over: one
    for each kept model at most, however long the reign is.
    """
    whole = reign(known, epsilon, now)
    kings = {turn.contender.hotkey: turn.contender for turn in whole.takeovers}
    incumbents = {turn.contender.hotkey: turn.incumbent for turn in whole.challenges}
    found: list[Contender] = []
    while (played := reign([*kept, *found], epsilon, now)).winner != whole.winner:
        usurper = next((t.contender.hotkey for t in played.takeovers if t.contender.hotkey not in kings), None)
        # Without a usurper the models at hand are kings in their order, and only the last one of all is missing.
        missing = incumbents[usurper] if usurper else kings[str(whole.winner)]
        assert missing is not None  # who comes first of all reigns, so a usurper has an incumbent
        found.append(missing)
    return found


def _failed_once(tried: Sequence[Tried]) -> bool:
    return bool(tried) and tried[-1].failed and sum(result.failed for result in tried) == 1


def _idle_reason(tried: Sequence[Tried]) -> str:
    if tried[-1].failed:
        return "failed twice: not tried again until its text changes"
    return f"evaluated at sync block {tried[-1].sync_block} and would not win now: not tried again until it would"
