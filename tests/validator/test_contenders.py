"""Who is evaluated: protocol, section 8, last part."""

import json
from itertools import permutations

import pytest

from sn37.competition import Competition, Constraints, EvalTask, LinearDecay
from sn37.files import write_json
from sn37.protocol import SelectionLimits
from sn37.records.epochs import Records
from sn37.records.history import History
from sn37.schedule import Period, Schedule, Share
from sn37.submission import Submission
from sn37.validator.contenders import kept, pick, sort_out

COMMIT, HASH = "a" * 40, "A" * 43 + "="
EPSILON = LinearDecay(0.05, 0.01, 1000)


def competition(competition_id: int = 7) -> Competition:
    constraints = Constraints(("LlamaForCausalLM",), 10, 10, 8, None, delay_blocks=100)
    return Competition(competition_id, "TINY", constraints, EPSILON, (EvalTask("A", "s", "m", 1.0),))


SCHEDULE = Schedule((Period(0, (Share(competition(), 1.0),)),), default_id=7)


def submission(uid: int, block: int, text: str | None = None, competition_id: int = 7) -> Submission:
    return Submission.read(f"hot{uid}", uid, block, text or f"ns:m{uid}:{COMMIT}:{HASH}:{competition_id}")


def decided(tmp_path, sync_block, scores, winner):
    """The history after one more epoch, its scores as (submission, score or None)."""
    entries = [
        {
            "hotkey": s.hotkey,
            "uid": s.uid,
            "block": s.block,
            "text": s.text,
            "score": score,
            "fault": None if score is not None else {"owner": "model", "reason": "broken"},
        }
        for s, score in scores
    ]
    decision = {"sync_block": sync_block, "scores": entries, "winner": winner}
    write_json(tmp_path / "7" / str(sync_block) / "decision.json", decision)
    return Records(tmp_path).history(7)


def choose(able, past=None, others=(), now=2000, most=10, **limits):
    return pick(able, past or History(), others, EPSILON, now, most=most, limits=SelectionLimits(**limits))


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


def test_the_winner_is_always_kept_then_the_best_of_those_who_stand(tmp_path):
    a, b, c, d, gone = (submission(uid, uid) for uid in (1, 2, 3, 4, 5))
    scores = [(a, 1.0), (b, 0.9), (c, 1.1), (d, 1.2), (gone, 0.8)]
    past = decided(tmp_path, 360, scores, "hot3")
    assert [key[0] for key in kept(past, [d, c, b, a], 3)] == ["hot3", "hot2", "hot1"]


def test_a_failed_model_is_tried_once_more_and_never_again_until_its_text_changes(tmp_path):
    bad = submission(1, 10)
    past = decided(tmp_path, 360, [(bad, None)], None)
    assert choose([bad], past)[0].evaluate
    past = decided(tmp_path, 720, [(bad, None)], None)
    assert not choose([bad], past)[0].evaluate
    assert not choose([submission(1, 11)], past)[0].evaluate, "committing the same text again wipes nothing"
    assert choose([submission(1, 11, f"ns:other:{COMMIT}:{HASH}:7")], past)[0].evaluate


@pytest.mark.parametrize(
    ("score", "now", "again"),
    [(0.97, 1000, False), (0.97, 1100, True), (1.01, 1100, False), (0.995, 1100, False)],
)
def test_a_near_winner_is_tried_again_once_epsilon_has_decayed_enough(tmp_path, score, now, again):
    # The winner, committed at block 100, has 5 % of advantage at first and 1 % from block 1100 on.
    winner, me = submission(1, 100), submission(2, 200)
    past = decided(tmp_path, 360, [(winner, 1.0), (me, score)], "hot1")
    picks = choose([winner, me], past, now=now if score != 0.97 or again else 200, kept=1)
    assert {p.submission.uid: p.evaluate for p in picks} == {1: True, 2: again}


def test_others_favourites_are_looked_at_again_after_1200_blocks(tmp_path):
    winner, me = submission(1, 100), submission(2, 200)
    past = decided(tmp_path, 360, [(winner, 1.0), (me, 1.5)], "hot1")
    for others, now, again in (({"hot2"}, 1559, False), ({"hot2"}, 1560, True), ((), 1560, False)):
        picks = choose([winner, me], past, others=others, now=now, kept=1)
        assert {p.submission.uid: p.evaluate for p in picks} == {1: True, 2: again}


def test_three_results_are_remembered_whatever_the_block_of_the_commitment(tmp_path):
    for block in (360, 720, 1080, 1440):
        past = decided(tmp_path, block, [(submission(1, block - 100, "text"), 1.0)], "hot1")
    assert list(past.tried) == [("hot1", "text")]
    assert [t.sync_block for t in past.tried["hot1", "text"]] == [720, 1080, 1440]


def test_a_uid_that_changed_hands_inherits_nothing(tmp_path):
    past = decided(tmp_path, 360, [(submission(1, 10), None)], None)
    heir = Submission.read("other", 1, 10, f"ns:m1:{COMMIT}:{HASH}:7")
    assert choose([heir], past)[0].why == "new"


def test_records_hold_json_only(tmp_path):
    decided(tmp_path, 360, [(submission(1, 1), 1.0)], "hot1")
    assert json.loads((tmp_path / "7" / "360" / "decision.json").read_text())["winner"] == "hot1"
