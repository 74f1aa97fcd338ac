"""Frames hold what the records say, in documented columns and a stable order."""

import math
import random
import shutil
import time

import pytest
from simulated import COMPETITION, START, newest, simulate

from sn37.analysis import figures, frames
from sn37.errors import ConfigError, DataFault
from sn37.incentive import beats
from sn37.records.epochs import Records
from sn37.records.faults import Fault, StageFault

KINDS = tuple(frames.COLUMNS)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("records"), epochs=6, models=6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_has_the_documented_columns_and_rows(records, kind):
    frame = getattr(frames, kind)(records)
    assert list(frame.columns) == list(frames.COLUMNS[kind])
    assert len(frame)
    assert all(frames.COLUMNS[kind].values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_and_an_epoch_are_sources_too(records, kind):
    make = getattr(frames, kind)
    assert make(str(records.root)).equals(make(records))
    one = make(newest(records))
    if kind == "weights":  # a single epoch knows no earlier ones
        assert set(one["sync_block"]) == {newest(records).sync_block}
    else:
        assert one.equals(make(records, last=1))


def test_models_say_what_the_decision_says(records):
    epoch = newest(records)
    frame = frames.models(epoch)
    assert list(frame["hotkey"]) == [score.hotkey for score in epoch.decision.scores]
    assert list(frame.dropna(subset="score")["score"]) == sorted(frame["score"].dropna())
    assert frame["winner"].sum() == 1
    assert frame.loc[frame["winner"], "hotkey"].item() == epoch.decision.winner
    assert bool(frame.loc[frame["winner"], "reigned"].item())
    failed = frame[frame["score"].isna()]
    assert (failed["fault"] != "").all() and len(failed) == sum(s.fault is not None for s in epoch.decision.scores)
    assert frame["repo"].iloc[0].startswith("miner-")


def test_scores_add_up_to_the_models_scores(records):
    whole = frames.models(records).dropna(subset="score").set_index(["sync_block", "hotkey"])["score"]
    parts = frames.scores(records).groupby(["sync_block", "hotkey"])["weighted"].sum()
    assert (parts - whole.reindex(parts.index)).abs().max() < 1e-12
    assert len(parts) == len(whole)


def test_samples_average_to_the_raw_scores_and_show_what_was_said(records):
    epoch = newest(records)
    frame = frames.samples(epoch)
    raw = frames.scores(epoch).set_index(["hotkey", "task"])["raw"]
    means = frame.groupby(["hotkey", "task"])["value"].mean()
    assert (means - raw.reindex(means.index)).abs().max() < 1e-12
    questions = frame[frame["task"] == "QUESTIONS"]
    assert set(questions["group"]) == {f"page {n}" for n in range(5)}
    assert questions["prompt"].iloc[0] == f"Question 0 of {epoch.sync_block}?"
    assert (questions["taken"].eq("A") == questions["value"].eq(0)).all()
    assert frames.samples(epoch, task="WORDS")["reference"].eq("a b c").all()
    hotkey = frame["hotkey"].iloc[0]
    assert frames.samples(epoch, hotkey=hotkey).equals(frame[frame["hotkey"] == hotkey].reset_index(drop=True))


def test_duels_are_those_of_the_protocol(records):
    epoch = newest(records)
    contenders = {s.hotkey: s.contender for s in epoch.decision.scores if s.contender}
    frame = frames.duels(epoch)
    assert len(frame) == len(contenders) * (len(contenders) - 1)
    for row in frame.itertuples():
        i, j = contenders[row.hotkey], contenders[row.opponent_hotkey]
        assert row.beats == beats(i, j, COMPETITION.epsilon, epoch.sync_block) == (row.margin < 0)


def test_turns_are_the_reign(records):
    frame = frames.turns(newest(records))
    assert frame["needed"].iloc[0] == math.inf
    assert (frame["succeeds"] == (frame["score"] < frame["needed"])).all()
    assert list(frame["block"]) == sorted(frame["block"])


def test_weights_are_the_fold_over_all_epochs_whatever_is_shown(records):
    whole = frames.weights(records)
    last = frames.weights(records, last=2)
    assert last.equals(whole[whole["sync_block"] >= START + 360 * 4].reset_index(drop=True))
    average = records.history(COMPETITION.id).average(0.9)
    shown = last[last["sync_block"] == last["sync_block"].max()].set_index("hotkey")["average"].to_dict()
    assert shown == pytest.approx(average)


def test_filters_choose_epochs(records):
    assert list(frames.epochs(records, since=START + 360, until=START + 720)["sync_block"]) == [
        START + 360,
        START + 720,
    ]
    assert len(frames.epochs(records, last=2)) == 2
    assert not len(frames.epochs(records, last=0))
    assert not len(frames.models(records, competition=99))


def test_several_validators_are_told_by_name(records, tmp_path):
    other = simulate(tmp_path, epochs=2, models=3, seed=1)
    frame = frames.epochs({"mine": records, "theirs": other.root})
    assert list(frame["validator"]) == ["mine"] * 6 + ["theirs"] * 2
    ax = figures.agreement(frames.weights({"mine": records, "theirs": other}, last=2))
    assert ax.get_title(loc="left")


def test_faults_of_undecided_epochs_are_shown(records, tmp_path):
    shutil.copytree(records.root, tmp_path / "records")
    there = Records(tmp_path / "records")
    epoch = there.begin(COMPETITION.id, START + 36_000)
    fault = Fault.of(DataFault("too few rows"))
    epoch.write(StageFault(fault.owner, fault.reason, "fetch"))
    frame = frames.faults(there)
    row = frame[frame["hotkey"] == ""].iloc[0]
    assert (row["owner"], row["stage"], row["reason"]) == ("data", "fetch", "too few rows")
    assert (frame[frame["hotkey"] != ""]["owner"] == "model").all()


def test_no_records_is_one_sentence_and_makes_nothing(tmp_path):
    with pytest.raises(ConfigError, match=r"there are no records in .*nowhere; expected a validator's folder"):
        frames.models(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ConfigError, match=r"hf://a/b is read first: give sn37\.open_records\('hf://a/b'\)"):
        frames.models("hf://a/b")


def test_every_figure_draws_from_the_frames(records):
    epoch = newest(records)
    for ax in (
        figures.leaderboard(frames.models(epoch)),
        figures.task_scores(frames.scores(epoch)),
        figures.task_profile(frames.scores(epoch)),
        figures.duel(frames.duels(epoch)),
        figures.reign(frames.models(records)),
        figures.weights(frames.weights(records)),
        figures.reasons(frames.submissions(records)),
        figures.costs(frames.epochs(records)),
        figures.copies(frames.distances(records)),
    ):
        ax.figure.canvas.draw()


def test_the_order_does_not_depend_on_the_file_system(records, tmp_path):
    """The same epochs, copied in another order."""
    blocks = [epoch.sync_block for epoch in records.sealed(COMPETITION.id)]
    random.Random(3).shuffle(blocks)
    for block in blocks:
        shutil.copytree(records.root / "4" / str(block), tmp_path / "4" / str(block))
    for kind in KINDS:
        assert getattr(frames, kind)(tmp_path).equals(getattr(frames, kind)(records))


def test_the_clock_is_not_looked_at(records, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert frames.epochs(records)["time"].dt.tz is not None
