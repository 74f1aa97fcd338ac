"""What became of a submission and why: nine planted causes from real epochs, and the numbers beside the plain ones."""

import math
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
from causes import causes
from simulated import COMPETITION, START, simulate
from small import executor
from typer.testing import CliRunner

from sn37.analysis import explain
from sn37.cli import app
from sn37.competition import Fixed
from sn37.errors import ConfigError
from sn37.incentive import Contender, reign
from sn37.records.archive import pack, unpack
from sn37.records.epochs import Records
from sn37.records.faults import Fault, StageFault, Waits
from sn37.validator.scores import decision_of

__all__ = ["causes", "executor"]

FIRST = {
    "task": ("decide", "task", None, "WORDS alone puts it behind"),
    "template": ("evaluate", "model", "model", "failed: the chat template has the user message 0 times"),
    "late": ("plan", "late", "model", "the first sync block that takes it is 5201051"),
    "epsilon": ("decide", "epsilon", None, "is 1.24% better, but less than"),
    "copy": ("decide", "copy", "model", "has the same files as uid 1"),
    "hash": ("fetch", "model", "model", "failed: the files do not match the hash"),
    "gone": ("fetch", "model", "model", "failed: the repo gone/model does not exist"),
    "slow": ("evaluate", "model", "model", "the worker ran longer than 8 s"),
}
"""Of the first epoch, by planted cause: stage, cause, owner and what the sentence says."""

SECOND = {
    "seniority": ("decide", "seniority", "model", "as of block 5200001 it would have won"),
    "copy": ("decide", "won", None, "won with the loss"),
    "late": ("decide", "copy", "model", "has the same files as uid 2"),
    "gone": ("plan", "model", "model", "waits: 4 models an epoch, again; at sync block 5200691 it failed: the repo"),
    "task": ("plan", "task", None, "would not win now: not tried again until it would; at sync block 5200691 it lost"),
}
"""The same of the second, before which the leader committed the same text again."""


@pytest.mark.parametrize(
    ("epoch", "name"), [*((0, name) for name in FIRST), *((1, name) for name in SECOND)], ids=lambda value: str(value)
)
def test_the_planted_cause_is_named(causes, epoch, name):
    found = explain(causes.records, causes.hotkeys[name], causes.epochs[epoch].sync_block).verdict
    stage, cause, owner, said = (FIRST, SECOND)[epoch][name]
    assert (found.stage, found.cause, found.owner) == (stage, cause, owner)
    assert said in found.sentence


@pytest.mark.parametrize("published", [False, True], ids=["records", "without results and samples"])
def test_every_explanation_shows_itself(causes, published, tmp_path):
    records = causes.records
    if published:
        records = Records(shutil.copytree(causes.records.root, tmp_path / "records"))
        for folder in [*records.root.glob("*/*/samples"), *records.root.glob("*/*/results")]:
            shutil.rmtree(folder)
    for name, hotkey in causes.hotkeys.items():
        found = explain(records, hotkey)
        assert found.verdict.sentence in str(found) and "committed: " in str(found)
        assert found.samples.empty == (published or found.mine is None)
        if name in ("task", "gone"):
            page = found._repr_html_()
            assert page.count("data:image/png") == (2 if name == "task" else 1) and "committed: " in page


def test_the_verdict_is_the_same_without_results_and_samples_as_far_as_they_go(causes, tmp_path):
    records = Records(shutil.copytree(causes.records.root, tmp_path / "records"))
    for folder in [*records.root.glob("*/*/samples"), *records.root.glob("*/*/results")]:
        shutil.rmtree(folder)
    block = causes.epochs[0].sync_block
    found = {name: explain(records, causes.hotkeys[name], block).verdict.cause for name in FIRST}
    # Only files and weights say that a model is a copy; without them its loss is equal.
    assert found == {**{name: FIRST[name][1] for name in FIRST}, "copy": "loss"}


def test_the_tasks_add_up_from_the_winners_score_to_this_one(causes):
    found = explain(causes.records, causes.hotkeys["task"])
    assert found.measured == causes.epochs[0] and found.rival.hotkey == causes.hotkeys["seniority"]
    assert found.tasks["difference"].sum() == pytest.approx(found.mine.score - found.rival.score)
    assert list(found.tasks["task"]) == ["WORDS", "TEXTS"] and (found.tasks["clipped"] == 0).all()


def test_the_samples_add_up_too_and_the_costliest_is_on_top(causes):
    found = explain(causes.records, causes.hotkeys["task"])
    assert found.samples["cost"].sum() == pytest.approx(found.mine.score - found.rival.score)
    assert found.samples["cost"].is_monotonic_decreasing and found.samples["task"][0] == "WORDS"
    top = found.samples.iloc[0]
    assert top["value"] > top["rival_value"] and "alphabetical" in top["prompt"] and top["reference"]


def test_the_sync_block_of_the_first_win_is_the_one_that_playing_every_epoch_finds(causes):
    found = explain(causes.records, causes.hotkeys["epsilon"])
    competition = causes.epochs[1].manifest.competition
    field = [contender for score in found.measured.decision.scores if (contender := score.contender)]
    blocks = range(found.epoch.sync_block, found.epoch.sync_block + 9_000, 360)
    played = [block for block in blocks if reign(field, competition.epsilon, block).winner == found.hotkey]
    assert found.first_win.block == played[0] > found.epoch.sync_block
    assert f"wins from sync block {played[0]} on" in str(found)


def test_what_is_needed_wins_and_a_step_above_does_not(causes):
    found = explain(causes.records, causes.hotkeys["copy"], causes.epochs[0].sync_block)
    epsilon = found.competition.epsilon
    field = [contender for score in found.epoch.decision.scores if (contender := score.contender)]
    for row in found.needed.itertuples():
        for loss, wins in ((math.nextafter(row.needed, 0), True), (row.needed, False)):
            crowd = [*field, Contender("new", 99, row.block, loss)]
            assert (reign(crowd, epsilon, row.block).winner == "new") is wins
        assert row.gain == pytest.approx(1 - row.needed / found.mine.score)
    assert len({reign(field, epsilon, block).winner for block in found.needed["block"]}) == 2, "another one takes over"


def test_the_timeline_has_every_step_in_its_order(causes):
    told = [event.what.partition(":")[0] for event in explain(causes.records, causes.hotkeys["seniority"]).timeline]
    first = ["committed", "picked up", "evaluated (new)"]
    assert told == [*first, "committed again, the same text", "picked up", "evaluated (kept)"]
    late = explain(causes.records, causes.hotkeys["late"]).timeline
    assert [event.what.partition(":")[0] for event in late] == [
        "committed", "not evaluated", "picked up", "evaluated (new)",
    ]  # fmt: skip
    assert [event.block for event in late] == sorted(event.block for event in late)
    epoch = causes.epochs[1]
    assert late[-1].time == epoch.manifest.as_of and (late[-1].time - late[1].time).total_seconds() == 360 * 12


def test_what_validators_publish_explains_as_their_own_records_do(causes, tmp_path):
    published = Records(tmp_path / "published")
    for epoch in causes.epochs:
        unpack(pack(epoch), published, "test", "a test")
    for hotkey in causes.hotkeys.values():
        assert str(explain(published, hotkey)) == str(explain(causes.records, hotkey))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("simulated"), epochs=6, models=6, seed=1)


def test_what_normalization_clipped_is_told(records, tmp_path):
    records = Records(shutil.copytree(records.root, tmp_path / "records"))
    epoch = records.epoch()
    scores = [
        replace(one, raw={**one.raw, "WORDS": 23.0}, normalized={**one.normalized, "WORDS": 1.0})
        if one.uid == 4
        else one
        for one in epoch.decision.scores
    ]
    epoch.write(replace(epoch.decision, scores=tuple(scores)))
    clipped = explain(records, 4).tasks.set_index("task")["clipped"]
    assert dict(clipped) == {"WORDS": 3.0, "QUESTIONS": 0.0}


def test_the_difference_is_the_decisions_and_noise_is_called_noise(records):
    found = explain(records, 4)
    whole = found.differences.set_index("task").loc["all"]
    assert whole["difference"] == pytest.approx(found.mine.score - found.rival.score)
    assert not whole["real"] and "it may be chance" in str(found)
    assert whole["low"] < 0 < whole["high"] and whole["smallest"] > abs(whole["difference"])


def test_without_samples_the_losses_are_compared_and_groups_are_said_to_be_unknown(records, tmp_path):
    pruned = Records(shutil.copytree(records.root, tmp_path / "records"))
    for folder in pruned.root.glob("*/*/samples"):
        shutil.rmtree(folder)
    found, whole = explain(pruned, 4), explain(records, 4)
    assert list(found.samples["cost"]) == list(whole.samples["cost"]) and found.samples["prompt"].isna().all()
    assert "samples are not kept" in str(found) and "samples are not kept" not in str(whole)


def test_a_miner_is_found_by_uid_by_hotkey_and_by_its_beginning(records):
    hotkey = next(one.hotkey for one in records.epoch().decision.scores if one.uid == 3)
    for who in (3, "3", hotkey, hotkey[:11]):
        assert explain(records, who).hotkey == hotkey
    assert explain(str(records.root), 3, START).epoch.sync_block == START


@pytest.mark.parametrize(
    ("who", "epoch", "said"),
    [
        (
            99,
            None,
            "no miner '99' at sync block 5202011; expected a hotkey or a uid with a submission: 0, 1, 2, 3, 4, 5",
        ),
        ("5Hot", None, "no miner '5Hot'"),
        ("", None, "no miner ''"),
        (3, START + 1, f"the nearest is {START}"),
    ],
)
def test_who_or_what_is_unknown_is_told_in_a_sentence(records, who, epoch, said):
    with pytest.raises(ConfigError, match=said):
        explain(records, who, epoch)


def test_a_uid_is_whose_it_is_now_and_the_hotkey_is_followed_back(records, tmp_path):
    records = Records(shutil.copytree(records.root, tmp_path / "records"))
    newest, before = records.epoch(), records.sealed(COMPETITION.id)[-2]
    mine = next(one for one in newest.decision.scores if one.uid == 3)
    picks = [pick for pick in newest.manifest.submissions if pick.submission.hotkey != mine.hotkey]
    uids = {**{hotkey: uid for hotkey, uid in newest.manifest.uids.items() if uid != 3}, "5Newcomer": 3}
    newest.write(replace(newest.manifest, submissions=tuple(picks), uids=uids))
    rest = tuple(one for one in newest.decision.scores if one is not mine)
    newest.write(replace(newest.decision, scores=rest, reign=()))
    assert explain(records, 3).hotkey == "5Newcomer" and explain(records, 3).verdict.cause == "absent"
    assert explain(records, mine.hotkey).epoch == before


def test_where_significance_is_asked_for_time_alone_never_wins(records, tmp_path):
    records = Records(shutil.copytree(records.root, tmp_path / "records"))
    asking = replace(COMPETITION, significance=0.95, epsilon=Fixed(0.0))
    for epoch in records.sealed(COMPETITION.id):
        drawn = {task.name: epoch.samples(task.name) for task in asking.tasks}
        epoch.write(replace(epoch.manifest, competition=asking, competition_digest=asking.digest))
        epoch.write(decision_of(asking, epoch.sync_block, epoch.results.values(), drawn=drawn))
    refused = 0
    for epoch in records.sealed(COMPETITION.id):
        for turn in epoch.decision.reign:
            found = explain(records, turn.hotkey, epoch.sync_block)
            if found.verdict.cause == "significance":
                refused += 1
                assert found.first_win.block is None and found.mine.score < turn.needed
                assert "beyond chance" in found.first_win.why and "and beyond chance (0.95)" in str(found)
            next_one = epoch.manifest.clock.next_sync_block(epoch.sync_block - 1)
            assert (found.first_win.block == next_one) == (turn.hotkey == epoch.decision.winner)
    assert refused, "somebody was better, but not beyond chance"


def idle(records, uid, root):
    """Records in which a submission was not evaluated in the newest epoch."""
    records = Records(shutil.copytree(records.root, root / "records"))
    epoch = records.epoch()
    hotkey = next(one.hotkey for one in epoch.decision.scores if one.uid == uid)
    picks = [
        replace(pick, evaluate=False, why="idle") if pick.submission.hotkey == hotkey else pick
        for pick in epoch.manifest.submissions
    ]
    epoch.write(replace(epoch.manifest, submissions=tuple(picks)))
    rest = tuple(one for one in epoch.decision.scores if one.hotkey != hotkey)
    turns = tuple(turn for turn in epoch.decision.reign if turn.hotkey != hotkey)
    epoch.write(replace(epoch.decision, scores=rest, reign=turns))
    epoch.remove(epoch.result(hotkey))
    return records


def test_a_copy_stays_one_while_it_is_not_evaluated(records, tmp_path):
    copied = idle(records, 4, tmp_path)
    before = copied.sealed(COMPETITION.id)[-2]
    first = min(before.decision.scores, key=lambda one: one.block)
    mine = next(one for one in before.results.values() if one.uid == 4)
    before.write(replace(mine, content_hash=before.results[first.hotkey].content_hash))
    found = explain(copied, 4).verdict
    assert (found.stage, found.cause) == ("plan", "copy") and f"the same files as uid {first.uid}" in found.sentence


def test_a_failure_is_the_first_again_once_the_former_is_forgotten(records, tmp_path):
    records = Records(shutil.copytree(records.root, tmp_path / "records"))
    epochs = records.sealed(COMPETITION.id)
    failing = [False, True, False, False, False, True]
    for epoch, fails in zip(epochs, failing, strict=True):
        scores = [
            replace(one, fault=Fault("model", "broken") if fails else None, score=None if fails else 0.5)
            if one.uid == 1
            else one
            for one in epoch.decision.scores
        ]
        epoch.write(replace(epoch.decision, scores=tuple(scores)))
    told = explain(records, 1).verdict.sentence
    assert told == "failed: broken; it is tried once more", "of the last three results one failed"
    assert explain(records, 1, epochs[1].sync_block).verdict.sentence == told


def test_records_of_several_validators_are_a_sentence(records):
    with pytest.raises(ConfigError, match=r"records of 2 validators \(mine, theirs\); expected one's"):
        explain({"mine": records, "theirs": records}, 3)


def test_an_epoch_that_is_not_decided_yet_ends_the_timeline(records, tmp_path):
    records = Records(shutil.copytree(records.root, tmp_path / "records"))
    newest = records.epoch()
    work = records.begin(COMPETITION.id, newest.sync_block + 360)
    later = newest.manifest.as_of + timedelta(seconds=360 * 12)
    work.write(replace(newest.manifest, sync_block=work.sync_block, as_of=later))
    work.write(StageFault("submission", "its repo answers 500", "evaluate"))
    hotkey = explain(records, 3).hotkey
    work.write(Waits({hotkey: 2}))
    last = explain(records, 3).timeline[-1]
    assert last.what == (
        "not decided yet, waited for this submission 2 times: evaluate: its repo answers 500 (submission fault)"
    )
    assert (last.block, last.time) == (work.sync_block, later)
    assert explain(records, 3).epoch == newest


def test_no_record_at_all_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="there is no decided epoch in"):
        explain(tmp_path, 3)
    assert not list(tmp_path.iterdir())


def test_a_registered_miner_without_a_submission_is_told_so(records, tmp_path):
    records = Records(shutil.copytree(records.root, tmp_path / "records"))
    epoch = records.epoch()
    epoch.write(replace(epoch.manifest, uids={**epoch.manifest.uids, "5Silent": 77}))
    found = explain(records, 77)
    assert found.verdict.cause == "absent" and f"no submission to competition {COMPETITION.id}" in str(found)


def test_a_submission_that_was_set_aside_neither_won_nor_lost(records, tmp_path):
    records = Records(shutil.copytree(records.root, tmp_path / "records"))
    epoch = records.epoch()
    mine = next(one for one in epoch.decision.scores if one.uid == 4)
    rest = tuple(one for one in epoch.decision.scores if one is not mine)
    epoch.write(replace(epoch.decision, scores=rest, set_aside={mine.hotkey: "its repo answers 500"}))
    found = explain(records, 4)
    assert (found.verdict.cause, found.verdict.owner) == ("set aside", "submission")
    assert "its repo answers 500; it neither won nor lost" in found.verdict.sentence
    assert found.measured.sync_block < epoch.sync_block, "its numbers are the last it has"


def test_every_verdict_agrees_with_the_decision(records):
    for epoch in records.sealed(COMPETITION.id):
        turns = {turn.hotkey: turn for turn in epoch.decision.reign}
        for score in epoch.decision.scores:
            found, turn = explain(records, score.hotkey, epoch.sync_block).verdict, turns.get(score.hotkey)
            if score.fault:
                assert found.cause == "model" and score.fault.reason in found.sentence
            elif score.hotkey == epoch.decision.winner:
                assert found.cause == "won"
            elif turn.succeeds:
                assert found.cause == "overtaken"
            else:
                assert found.cause in ("epsilon", "task", "loss", "copy") and f"= {turn.needed:.6g}" in found.sentence


def test_whoever_reigned_is_told_who_took_over(records):
    for epoch in records.sealed(COMPETITION.id):
        for turn in epoch.decision.reign:
            if turn.succeeds and turn.incumbent:
                found = explain(records, turn.incumbent, epoch.sync_block)
                assert found.verdict.cause == "overtaken" and f"= {turn.needed:.6g}" in found.verdict.sentence
                return
    pytest.fail("nobody was ever overtaken")


def test_what_a_stranger_wrote_is_text_in_a_terminal_and_on_a_page(records, tmp_path):
    evil = "<script>\x1b[2J\u202e\n"
    records = Records(shutil.copytree(records.root, tmp_path / "records"))
    epoch = records.epoch()
    mine = next(one for one in epoch.decision.scores if one.uid == 4)
    result = epoch.results[mine.hotkey]
    outcome = result.tasks["QUESTIONS"]
    details = tuple({**detail, "reply": evil, "answer": evil} for detail in outcome.details)
    tasks = {**result.tasks, "QUESTIONS": replace(outcome, details=details)}
    epoch.write(replace(result, measurement=replace(result.measurement, tasks=tasks)))
    failed = replace(epoch.decision.scores[-1], score=None, fault=Fault("model", evil), raw={}, normalized={})
    rest = (one for one in epoch.decision.scores[:-1] if one is not mine)
    epoch.write(replace(epoch.decision, scores=(mine, *rest, failed), set_aside={"5Away": evil}))
    for found in (explain(records, 4), explain(records, failed.hotkey)):
        assert "<script>" in str(found) + repr(found) and "<script>" not in found._repr_html_()
        assert all(line.isprintable() for line in [*str(found).split("\n"), repr(found), repr(found.verdict)])


def said(*arguments):
    result = CliRunner().invoke(app, ["miner", "explain", *map(str, arguments)])
    if isinstance(result.exception, Exception):
        raise result.exception
    return result.output.strip()


def test_the_command_prints_the_explanation(records, tmp_path):
    shutil.copytree(records.root, tmp_path / "validator" / "records")
    for folder in (tmp_path / "validator", tmp_path / "validator" / "records"):
        assert said(4, "--records", folder) == str(explain(records, 4)).strip()
    assert said(4, "--epoch", START, "--records", folder) == str(explain(records, 4, START)).strip()


@pytest.mark.parametrize(
    ("given", "told"),
    [(("--wandb", "somebody/something/run/more"), "names no records"), (("--wandb", "no/such.wandb"), "no wandb run")],
)
def test_a_run_that_is_none_is_a_sentence(given, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=told):
        said(4, *given)
