"""One submission that cannot be had delays an epoch twice and never decides it: protocol, section 7."""

import pytest
from faulty_hub import Fault

from sn37.errors import EvaluatorFault, SubmissionFault
from sn37.records.epochs import Records
from sn37.records.faults import MAX_WAITS, Waits


@pytest.fixture
def played(small, tmp_path):
    """A subnet of two miners with one epoch behind it, which the better one has won; another epoch is due."""
    small.submit("leader", 0.0)
    small.submit("second", 0.5)
    small.next_epoch()
    small.epoch(tmp_path / "home")
    small.next_epoch()
    return small


def break_repo(small, name):
    """From now on the hub answers 500 for everything of that miner's repo, and serves all others."""
    small.server.faults.add(Fault(where=f"{name}/model", status=500, times=100_000))


def waits_of(home):
    (epoch,) = Records(home / "records").open()
    return epoch.read(Waits).counts


def test_a_submission_whose_repo_fails_is_waited_for_twice_then_set_aside(played, tmp_path):
    home = tmp_path / "home"
    newcomer = played.submit("newcomer", 0.2)
    played.next_epoch()
    break_repo(played, "newcomer")
    for count in range(1, MAX_WAITS + 1):
        with pytest.raises(SubmissionFault, match="newcomer/model"):
            played.epoch(home)
        assert waits_of(home) == {newcomer: count}
    decided = played.epoch(home)
    assert decided.decision.winner == played.hotkey("leader")
    assert list(decided.decision.set_aside) == [newcomer]
    assert "newcomer/model" in decided.decision.set_aside[newcomer]
    assert newcomer not in decided.losses and newcomer not in decided.faults
    assert "set aside" in decided.decided._repr_html_()
    assert played.epoch(home).decision == decided.decision, "what is sealed stays"

    played.server.faults.clear()
    played.next_epoch()
    again = played.epoch(home)
    assert again.decision.set_aside == {}
    block = {p.submission.hotkey: p.submission.block for p in decided.plan.picks}[newcomer]
    assert {score.hotkey: score.block for score in again.decision.scores}[newcomer] == block, "its seniority is kept"


def test_a_winner_that_hides_its_repo_stays_no_winner(played, tmp_path):
    home = tmp_path / "home"
    break_repo(played, "leader")
    for _ in range(MAX_WAITS):
        with pytest.raises(SubmissionFault):
            played.epoch(home)
    assert played.epoch(home).decision.winner == played.hotkey("second")


def test_many_that_fail_at_once_delay_an_epoch_no_longer_than_one(played, tmp_path):
    home = tmp_path / "home"
    hostile = {played.submit(f"hostile{n}", 0.3) for n in range(3)}
    played.next_epoch()
    for number in range(3):
        break_repo(played, f"hostile{number}")
    for _ in range(MAX_WAITS):
        with pytest.raises(SubmissionFault):
            played.epoch(home)
    assert set(played.epoch(home).decision.set_aside) == hostile


def test_a_hub_that_serves_nobody_sets_nobody_aside(played, tmp_path):
    home = tmp_path / "home"
    played.submit("newcomer", 0.2)
    played.next_epoch()
    for name in ("leader", "second", "newcomer"):
        break_repo(played, name)
    for _ in range(MAX_WAITS + 2):
        with pytest.raises(EvaluatorFault):
            played.epoch(home)
    played.server.faults.clear()
    assert played.epoch(home).decision.set_aside == {}


def test_what_nobody_foresaw_with_one_submission_freezes_no_epoch(played, tmp_path, monkeypatch):
    from sn37.hub import Hub

    home = tmp_path / "home"
    odd = played.submit("odd", 0.2)
    played.next_epoch()
    fetch_model = Hub.fetch_model

    def breaks(self, model, hotkey, constraints):
        if hotkey == odd:
            raise ZeroDivisionError("odd")
        return fetch_model(self, model, hotkey, constraints)

    monkeypatch.setattr(Hub, "fetch_model", breaks)
    for _ in range(MAX_WAITS):
        with pytest.raises(SubmissionFault, match="ZeroDivisionError: odd"):
            played.epoch(home)
    assert played.epoch(home).decision.set_aside == {odd: "ZeroDivisionError: odd"}
