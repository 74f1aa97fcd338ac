"""Who is evaluated: protocol, section 8, last part."""

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import decision, folded, score

from sn37.competition import Competition, Constraints, EvalTask, Fixed, LinearDecay
from sn37.incentive import Contender, reign
from sn37.protocol import SelectionLimits
from sn37.records.history import History, Tried, Win
from sn37.schedule import Period, Schedule, Share
from sn37.submission import Submission
from sn37.validator.contenders import pick, sort_out

COMMIT, HASH = "a" * 40, "A" * 43 + "="
EPSILON = LinearDecay(0.05, 0.01, 1000)


def competition(competition_id: int = 7) -> Competition:
    constraints = Constraints(("LlamaForCausalLM",), 10, 10, 8, None, delay_blocks=100)
    return Competition(competition_id, "TINY", constraints, EPSILON, (EvalTask("A", "s", "m", 1.0),))


SCHEDULE = Schedule((Period(0, (Share(competition(), 1.0),)),), default_id=7)


def submission(uid: int, block: int, text: str | None = None, competition_id: int = 7) -> Submission:
    return Submission.read(f"hot{uid}", uid, block, text or f"ns:m{uid}:{COMMIT}:{HASH}:{competition_id}")


def past(*results, incumbent=None, at=360):
    """What is known: (submission, its scores, oldest first, None for a failure), the last ones of epoch `at`."""
    tried = {
        (s.hotkey, s.text): tuple(Tried(at - 360 * age, math.inf if x is None else x) for age, x in _aged(scores))
        for s, *scores in results
    }
    wins = (Win(at, incumbent.hotkey, incumbent.text, incumbent.uid),) if incumbent else ()
    return History(wins, tried)


def _aged(scores):
    return [(len(scores) - 1 - place, score) for place, score in enumerate(scores)]


def choose(able, known=None, others=(), now=2000, most=10, epsilon=EPSILON):
    return pick(able, known or History(), others, epsilon, now, most=most, limits=SelectionLimits())


def chosen(*args, **options):
    """uid -> why, of those that are evaluated, in order."""
    return {p.submission.uid: p.why for p in choose(*args, **options) if p.evaluate}


def again(submission, block):
    """The same hotkey and text, committed once more."""
    return Submission.read(submission.hotkey, submission.uid, block, submission.text)


def test_a_malformed_commitment_is_reported_with_its_fault():
    able, unable = sort_out([submission(1, 0, "nonsense")], competition(), SCHEDULE, 500)
    assert able == []
    assert "malformed" in unable[0].why


@pytest.mark.parametrize(("block", "taken"), [(400, True), (401, False)])
def test_the_pick_up_delay_ends_exactly_at_the_sync_block(block, taken):
    able, unable = sort_out([submission(1, block)], competition(), SCHEDULE, 500)
    assert bool(able) is taken
    assert taken or "too late" in unable[0].why


def test_an_unscheduled_competition_is_reported_and_another_running_one_is_left_to_its_own_epoch():
    other = competition(8)
    schedule = Schedule((Period(0, (Share(competition(), 0.5), Share(other, 0.5))),))
    able, unable = sort_out(
        [submission(1, 0, competition_id=8), submission(2, 0, competition_id=9)], competition(), schedule, 500
    )
    assert able == []
    assert [p.submission.uid for p in unable] == [2]


def test_a_competition_must_also_run_at_the_commitment_block():
    schedule = Schedule((Period(0, (Share(competition(8), 1.0),)), Period(300, (Share(competition(), 1.0),))))
    able, unable = sort_out([submission(1, 299), submission(2, 300)], competition(), schedule, 500)
    assert [s.uid for s in able] == [2]
    assert "was not scheduled" in unable[0].why


def test_a_legacy_submission_belongs_to_the_schedules_default():
    able, _ = sort_out([submission(1, 0, f"ns:m:{COMMIT}:{HASH}")], competition(), SCHEDULE, 500)
    assert len(able) == 1


def test_new_submissions_are_taken_oldest_first_within_the_limit_whatever_their_order():
    able = [submission(1, 30), submission(2, 10), submission(3, 20)]
    for order in permutations(able):
        picks = choose(order, most=2)
        assert [(p.submission.uid, p.evaluate) for p in picks] == [(2, True), (3, True), (1, False)]


def test_the_reigning_winner_is_kept_then_the_best_of_the_others():
    able = [submission(uid, uid) for uid in range(1, 7)]
    known = past(*zip(able, (1.0, 0.9, 1.1, 1.2, 0.8, None), strict=True), incumbent=able[3])
    assert [uid for uid, why in chosen(able, known).items() if why == "kept"] == [4, 5, 2]


def test_among_equals_the_elder_then_the_lower_uid_is_kept():
    able = [submission(1, 30), submission(2, 20), submission(3, 20), submission(4, 10), submission(5, 10)]
    known = past(*((s, 1.0) for s in able))
    assert list(chosen(able, known)) == [4, 5, 2]


def test_a_winner_that_left_or_committed_another_text_is_not_kept():
    left, other = submission(1, 10), submission(2, 20)
    known = past((left, 1.0), (other, 2.0), incumbent=left)
    assert chosen([other], known) == {2: "kept"}
    changed = submission(1, 30, f"ns:new:{COMMIT}:{HASH}:7")
    assert chosen([other, changed], known) == {2: "kept", 1: "new"}
    known = past((left, 1.0), (changed, 3.0), (other, 2.0), incumbent=left)
    assert list(chosen([other, changed], known)) == [2, 1]


def test_a_failed_model_is_tried_once_more_and_never_again():
    bad = submission(1, 10)
    assert chosen([bad], past((bad, None))) == {1: "again"}
    assert chosen([bad], past((bad, 1.0, None))) == {1: "again"}
    assert not chosen([bad], past((bad, None, None)))
    assert not chosen([bad], past((bad, None, 1.0, None)))
    changed = submission(1, 11, f"ns:new:{COMMIT}:{HASH}:7")
    assert chosen([changed], past((bad, None, None))) == {1: "new"}


def test_the_same_text_again_wipes_no_failure_and_is_no_new_model():
    bad, good, best = submission(1, 10), submission(2, 20), submission(3, 30)
    known = past((bad, None, None), (good, 2.0), (best, 1.0), incumbent=best)
    picks = choose([again(bad, 90), again(good, 80), again(best, 70)], known)
    assert {p.submission.uid: p.why for p in picks if p.evaluate} == {3: "kept", 2: "kept"}
    assert [p.why for p in picks if not p.evaluate] == ["failed twice: not tried again until its text changes"]


def crowd(*scored, incumbent=None):
    return [s for s, _ in scored], past(*scored, incumbent=incumbent)


@pytest.mark.parametrize(("now", "due"), [(800, False), (1100, True)])
def test_one_who_waits_is_tried_again_once_epsilon_has_decayed_enough(now, due):
    """The leader's epsilon falls from 5 % at block 100 to 1 % at 1100; 2 is 1.5 % better and not kept."""
    epsilon, leader, me = LinearDecay(0.05, 0.01, 1000), submission(1, 100), submission(2, 200)
    able, known = crowd(
        (leader, 1.0), (me, 0.985), (submission(3, 300), 0.98), (submission(4, 400), 0.98), incumbent=leader
    )
    assert ("decisive" in chosen(able, known, now=now, epsilon=epsilon).values()) is due


def test_the_next_best_is_tried_when_the_leader_is_gone():
    old, older, third, best = (submission(uid, 10 * uid) for uid in (1, 2, 3, 5))
    able, known = crowd((old, 6.0), (older, 5.0), (third, 4.0), (best, 1.0), incumbent=submission(4, 40))
    assert 5 in chosen(able, known, epsilon=Fixed(0.01))


def test_a_copy_is_the_elder_once_the_leader_commits_again():
    leader, copy = submission(1, 10), submission(2, 20)
    able, known = crowd(
        (leader, 1.0), (copy, 1.0), (submission(3, 30), 1.0), (submission(4, 40), 1.0), incumbent=leader
    )
    assert 4 not in chosen(able, known)
    assert chosen([again(leader, 50), *able[1:]], known) == {1: "kept", 2: "kept", 3: "kept"}


def test_who_stands_between_the_winner_and_a_kept_one_is_tried():
    """Without 2, which is not among the best, 3 would take over from 1 and 5 could not take over from 3."""
    scores = {1: 1.0, 2: 0.985, 3: 0.98, 4: 0.979, 5: 0.975}
    able, known = crowd(
        *((submission(uid, 10 * uid), score) for uid, score in scores.items()), incumbent=submission(5, 50)
    )
    assert chosen(able, known, epsilon=Fixed(0.01)) == {5: "kept", 4: "kept", 3: "kept", 2: "decisive"}


def test_a_long_reign_leaves_room_for_new_models():
    kings = [(submission(uid, 10 * uid), 0.98**uid) for uid in range(1, 60)]
    able, known = crowd(*kings, incumbent=kings[-1][0])
    new = submission(99, 5)
    assert chosen([*able, new], known, epsilon=Fixed(0.01)) == {59: "kept", 58: "kept", 57: "kept", 99: "new"}


@given(
    st.lists(st.tuples(st.integers(0, 40), st.floats(0.8, 1.2)), min_size=1, max_size=12),
    st.sampled_from([Fixed(0.01), Fixed(0.1), LinearDecay(0.2, 0.01, 30)]),
    st.integers(0, 11),
)
def test_the_few_that_are_evaluated_have_the_winner_of_all(drawn, epsilon, incumbent):
    able = [submission(uid, block) for uid, (block, _) in enumerate(drawn)]
    known = past(
        *((s, score) for s, (_, score) in zip(able, drawn, strict=True)), incumbent=able[incumbent % len(able)]
    )
    picked = chosen(able, known, epsilon=epsilon, now=40)
    models = [Contender(s.hotkey, s.uid, s.block, drawn[s.uid][1]) for s in able]
    few = [model for model in models if model.uid in picked]
    assert reign(few, epsilon, 40).winner == reign(models, epsilon, 40).winner
    assert len(picked) <= 7
    assert next(iter(picked)) == incumbent % len(able)


def test_others_favourites_are_looked_at_again_after_1200_blocks():
    scores = {1: 1.0, 2: 1.1, 3: 1.1, 4: 1.5}
    able, known = crowd(*((submission(uid, 10 * uid), score) for uid, score in scores.items()))
    assert 4 not in chosen(able, known, others={"hot4"}, now=360 + 1199)
    assert chosen(able, known, others={"hot4"}, now=360 + 1200)[4] == "weighted by others"
    assert 4 not in chosen(able, known, now=360 + 1200)


def test_the_order_is_kept_decisive_new_again_favourites_within_the_limit():
    scores = {1: 1.0, 2: 0.985, 3: 0.98, 4: 0.979, 5: 0.975, 7: None, 8: 1.4}
    scored = [(submission(uid, 10 * uid), score) for uid, score in scores.items()]
    able, known = [s for s, _ in scored], past(*scored, incumbent=scored[4][0])
    able.append(submission(6, 60))
    picks = choose(able, known, {"hot8"}, now=2000, epsilon=Fixed(0.01), most=6)
    assert [(p.submission.uid, p.evaluate) for p in picks] == [
        (5, True), (4, True), (3, True), (2, True), (6, True), (7, True), (8, False), (1, False),
    ]  # fmt: skip
    assert picks[-2].why == "waits: 6 models an epoch, weighted by others"


def test_the_order_of_submissions_never_matters():
    scored = [(submission(uid, 10 * (uid % 3)), 1 - 0.01 * (uid % 4)) for uid in range(6)]
    able, known = crowd(*scored, incumbent=scored[2][0])
    for order in permutations(able):
        assert choose(order, known) == choose(able, known)


def test_a_uid_that_changed_hands_inherits_nothing():
    heir = Submission.read("other", 1, 10, f"ns:m1:{COMMIT}:{HASH}:7")
    assert chosen([heir], past((submission(1, 10), None))) == {1: "new"}


def test_three_results_are_remembered_whatever_the_block_of_the_commitment():
    epochs = (decision(n, score(1, 1.0, block=n, text="text"), winner="hot1") for n in (360, 720, 1080, 1440))
    known = folded(epochs)
    assert list(known.tried) == [("hot1", "text")]
    assert [t.sync_block for t in known.tried["hot1", "text"]] == [720, 1080, 1440]
