"""Two records of one epoch: equal ones are told so, and what differs is told where it comes in, with a reason."""

import json

import pytest
from simulated import COMPETITION, newest, simulate

from sn37.analysis.comparison import compare, paired
from sn37.records.epochs import Epoch
from sn37.validator.scores import decision_of, mistakes_of


@pytest.fixture
def pair(tmp_path):
    """The same epoch twice, as two validators have it."""
    return tuple(newest(simulate(tmp_path / name, epochs=2, models=4)) for name in "ab")


def changed(epoch, name, change):
    """The epoch with one of its files changed."""
    path = epoch.folder / name
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return Epoch(epoch.folder)


def measured(epoch):
    return next(result for result in epoch.results.values() if result.measurement)


def test_equal_records_are_equal(pair):
    found = compare(*pair)
    assert found.equal and found.reasons == ()
    assert found.compared == len(found.samples) == 3 * 20 * 2 - 20 * 2  # one of the four is late, one fails
    assert (found.samples["difference"] == 0).all()
    assert "equal to the last digit" in str(found) and "equal" in found._repr_html_()


def test_a_value_that_differs_is_found_with_the_device_as_its_reason(pair):
    first, second = pair
    hotkey = measured(second).hotkey

    def change(data):
        data["measurement"]["device"] = "NVIDIA H100"
        data["measurement"]["tasks"]["WORDS"]["values"][7] += 0.5

    found = compare(first, changed(second, f"results/{hotkey}.json", change))
    (difference,) = found.differences
    assert difference.stage == "sample"
    assert "WORDS: 1 of 20 values, the most at sample 7" in difference.place
    assert found.reasons == ("likely reason: device cpu / NVIDIA H100, cpu",)
    apart = found.samples.query("difference != 0")
    assert list(apart["sample"]) == [7] and apart["difference"].iloc[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "change", "stage", "reason"),
    [
        ("manifest.json", lambda d: d.update(block_hash="0x" + "f" * 64), "plan", "of different chains"),
        ("manifest.json", lambda d: d.update(netuid=5), "plan", "planned differently (netuid)"),
        ("manifest.json", lambda d: d["submissions"][0].update(evaluate=False), "plan", "planned differently"),
        ("manifest.json", lambda d: d["data"]["WORDS"].update(digest="0" * 64), "data", "same commits gave other"),
        ("manifest.json", lambda d: d["data"]["WORDS"].update(revisions={"a/b": "c"}), "data", "read at other commits"),
        ("decision.json", lambda d: d.update(winner=None), "decision", "none recorded"),
        ("published.json", lambda d: d.update(weights={"5x": 1.0}), "weights", "none recorded"),
    ],
)
def test_what_differs_is_told_where_it_comes_in(pair, name, change, stage, reason):
    first, second = pair
    found = compare(first, changed(second, name, change))
    assert {difference.stage for difference in found.differences} == {stage}
    assert reason in found.reasons[0] and stage in str(found)


def test_a_model_that_only_one_could_have_is_a_difference(pair):
    first, second = pair
    (second.folder / "results" / f"{measured(Epoch(second.folder)).hotkey}.json").unlink()
    found = compare(first, second)
    assert "model" in {difference.stage for difference in found.differences}
    assert "could not have" in found.reasons[0]


def test_epochs_are_paired_by_competition_and_block(tmp_path):
    mine, theirs = (simulate(tmp_path / name, epochs=count, models=2) for name, count in (("a", 3), ("b", 2)))
    both, alone = paired(mine.sealed(COMPETITION.id), theirs.sealed(COMPETITION.id))
    assert [(a.sync_block, b.sync_block) for a, b in both] == [(e.sync_block,) * 2 for e in theirs.sealed(4)]
    assert alone == mine.sealed(COMPETITION.id)[2:]


@pytest.mark.parametrize(
    ("name", "change", "mistake"),
    [
        ("decision.json", lambda d: d["scores"][0].update(score=0.0), "not the one that the results make"),
        ("decision.json", lambda d: d.update(winner=None), "not the one that the results make"),
        ("manifest.json", lambda d: d["data"]["WORDS"].update(digest="0" * 64), "samples of WORDS are not those"),
    ],
)
def test_a_record_that_was_changed_does_not_agree_with_itself(pair, name, change, mistake):
    epoch = pair[0]
    assert mistakes_of(epoch) == []
    assert mistake in mistakes_of(changed(epoch, name, change))[0]


def test_a_result_that_was_changed_does_not_agree_with_the_decision(pair):
    epoch = pair[0]

    def change(data):
        data["measurement"]["tasks"]["WORDS"]["score"] += 1.0

    again = changed(epoch, f"results/{measured(epoch).hotkey}.json", change)
    assert mistakes_of(again) == ["the decision is not the one that the results make"]
    assert decision_of(COMPETITION, again.sync_block, again.results.values()) != again.decision


def test_another_funding_is_no_other_plan(pair):
    first, second = pair
    found = compare(first, changed(second, "manifest.json", lambda data: data.update(shares={"4": 0.5, "5": 0.5})))
    (difference,) = found.differences
    assert (difference.stage, difference.place) == ("weights", "shares")
    assert found.reasons == ("likely reason: the two fund competitions differently",)


def test_what_a_stranger_writes_reaches_no_terminal(pair):
    first, second = pair
    found = compare(first, changed(second, "decision.json", lambda data: data.update(set_aside={"5A": "\x1b[2Jgone"})))
    assert "\x1b" not in str(found) and r"\x1b[2Jgone" in str(found)
