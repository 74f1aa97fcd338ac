"""Every fault has an owner: nobody is punished for it, the old weights stand, and it is tried again."""

import errno
import sys

import pytest
from faulty_hub import Fault

from sn37.devnet.datasets import Dataset
from sn37.errors import ChainFault, DataFault, EvaluatorFault, HubFault, SubmissionFault
from sn37.records.decision import Publication
from sn37.records.epochs import Records
from sn37.records.faults import StageFault
from sn37.workers.executors import LocalExecutor


@pytest.fixture
def played(small, tmp_path):
    """A subnet with two miners and one epoch behind it, so that weights stand; another epoch is due."""
    small.submit("best", 0.0)
    small.submit("second", 0.5)
    small.next_epoch()
    small.epoch(tmp_path / "home")
    small.next_epoch()
    return small


def weights(small):
    with small.subnet() as subnet:
        return subnet.validator_weights()


def work_of(home):
    (epoch,) = Records(home / "records").open()
    return epoch


def fails(small, home, error, owner, stage, **options):
    """Run an epoch that has to stop with that fault, and see that it changed nothing."""
    before = weights(small)
    sealed = Records(home / "records").sealed(7)
    with pytest.raises(error) as caught:
        small.epoch(home, **options)
    fault = work_of(home).read(StageFault)
    assert (fault.owner, fault.stage) == (owner, stage)
    assert fault.reason in " ".join(str(caught.value).split())
    assert weights(small) == before
    assert Records(home / "records").sealed(7) == sealed
    return fault.reason


def decides_as_undisturbed(small, home, tmp_path):
    """After the trouble the same epoch is decided as by a validator that met none."""
    decided = small.epoch(home).decided.epoch
    assert not list(Records(home / "records").open())
    assert not (decided.folder / "fault.json").exists()
    other = tmp_path / "undisturbed"
    first = Records(home / "records").sealed(7)[0].sync_block
    small.epoch(other, sync_block=first)
    assert small.epoch(other).decision == decided.decision


def api(small):
    from huggingface_hub import HfApi

    return HfApi(endpoint=small.server.endpoint, token=small.server.token_of("curator"))


def test_a_dataset_that_turns_private_and_comes_back(played, tmp_path):
    api(played).update_repo_settings("curator/texts", repo_type="dataset", private=True)
    home = tmp_path / "home"
    reason = fails(played, home, DataFault, "data", "fetch")
    assert "curator/texts" in reason
    api(played).update_repo_settings("curator/texts", repo_type="dataset", private=False)
    decides_as_undisturbed(played, home, tmp_path)


def test_a_dataset_with_too_few_rows_gives_no_epoch(small, tmp_path):
    Dataset("curator/few", {("default", "test"): [{"text": "alone"}]}).publish(
        small.server.endpoint, small.server.token_of("curator")
    )
    text = small.competition_file.read_text().replace("curator/texts", "curator/few")
    small.competition_file.write_text(text)
    small.submit("best", 0.0)
    small.next_epoch()
    reason = fails(small, tmp_path / "home", DataFault, "data", "fetch")
    assert "curator/few" in reason


def test_a_chain_that_dies_before_anything_is_planned_leaves_nothing(played, tmp_path):
    home = tmp_path / "home"
    before = weights(played)
    played.chain.fail("refusing")
    with pytest.raises(ChainFault, match="2 attempts"):
        played.epoch(home)
    played.chain.recover()
    assert weights(played) == before
    decides_as_undisturbed(played, home, tmp_path)


def test_a_chain_that_forgot_the_state_of_the_sync_block_leaves_the_epoch_undecided(played, tmp_path):
    home = tmp_path / "home"
    played.chain.advance(1)
    played.chain.prune(played.chain.head())
    reason = fails(played, home, ChainFault, "chain", "plan")
    assert "archive node" in reason
    played.chain.prune(0)
    decides_as_undisturbed(played, home, tmp_path)


def test_what_was_planned_is_gone_on_with_when_the_chain_has_forgotten_it(played, tmp_path):
    home = tmp_path / "home"

    def forget():
        played.chain.advance(1)
        played.chain.prune(played.chain.head())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        played.epoch(home, after_plan=forget)
    assert played.epoch(home).decision.winner == played.hotkey("best")
    assert played.epoch(home).publication.chain.startswith("unchanged"), "a decided epoch needs no old state either"


def test_a_chain_that_dies_before_the_weights_are_set_keeps_the_decision(played, tmp_path):
    home = tmp_path / "home"
    before = weights(played)
    with pytest.raises(ChainFault):
        played.epoch(home, after_decide=lambda: played.chain.fail("refusing"))
    played.chain.recover()
    assert weights(played) == before
    sealed = Records(home / "records").sealed(7)[-1]
    fault = sealed.read(StageFault)
    assert (fault.owner, fault.stage) == ("chain", "publish")
    assert sealed.read(Publication) is None
    times = {path: path.stat().st_mtime_ns for path in (sealed.folder / "results").iterdir()}
    again = played.epoch(home)
    assert again.decided.epoch == sealed
    assert {path: path.stat().st_mtime_ns for path in times} == times, "nothing is evaluated again"
    assert sealed.read(Publication).weights == again.publication.weights == {played.hotkey("best"): 1.0}
    assert sealed.read(StageFault) is None


def test_a_repo_that_fails_in_the_middle_of_the_models(played, tmp_path):
    home = tmp_path / "home"
    played.submit("third", 0.25)
    played.next_epoch()
    played.server.faults.add(Fault(where="third/model", status=503, times=1000))
    reason = fails(played, home, SubmissionFault, "submission", "evaluate")
    assert "third/model" in reason
    done = sorted(path.stem for path in (work_of(home).folder / "results").iterdir())
    assert done == sorted([played.hotkey("best"), played.hotkey("second")]), "what could be had is kept"
    played.server.faults.clear()
    times = {path: path.stat().st_mtime_ns for path in (work_of(home).folder / "results").iterdir()}
    decided = played.epoch(home).decided
    assert played.hotkey("third") in {score.hotkey for score in decided.decision.scores}
    kept = {path.name: path.stat().st_mtime_ns for path in (decided.epoch.folder / "results").iterdir()}
    assert {path.name: time for path, time in times.items()}.items() <= kept.items()


def test_a_hub_that_dies_in_the_middle_of_the_samples(played, tmp_path):
    home = tmp_path / "home"
    played.server.faults.add(Fault(where="datasets/curator/texts", status=500, times=1000))
    fails(played, home, HubFault, "evaluator", "fetch")
    played.server.faults.clear()
    decides_as_undisturbed(played, home, tmp_path)


def test_an_evaluator_that_can_run_nothing_blames_nobody(played, tmp_path, monkeypatch):
    home = tmp_path / "home"
    # Too little for any model, the control model too.
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["sn37.validator.evaluate"], "_memory_bytes", lambda: 2 << 20)
        reason = fails(played, home, EvaluatorFault, "evaluator", "evaluate")
    assert "so did the control run" in reason
    decides_as_undisturbed(played, home, tmp_path)


def test_a_gpu_that_is_gone_blames_nobody(played, tmp_path, executor):
    home = tmp_path / "home"
    played.executor = LocalExecutor(("cuda:63",))  # which no machine has
    played.executor._server = executor._server
    fails(played, home, EvaluatorFault, "evaluator", "evaluate")
    played.executor = executor
    decides_as_undisturbed(played, home, tmp_path)


def test_an_error_that_nobody_foresaw_is_the_evaluators(played, tmp_path, monkeypatch):
    home = tmp_path / "home"

    def broken(*_):
        raise ZeroDivisionError("odd")

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["sn37.validator.fetch"], "draw", broken)
        assert fails(played, home, EvaluatorFault, "evaluator", "fetch") == "ZeroDivisionError: odd"
    decides_as_undisturbed(played, home, tmp_path)


def test_a_disk_without_room_leaves_the_epoch_undecided(played, tmp_path, monkeypatch):
    home = tmp_path / "home"

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(EvaluatorFault, match="No space left on device; free some space"),
    ):
        patch.setattr("sn37.files.os.fsync", full)
        played.epoch(home)
    decides_as_undisturbed(played, home, tmp_path)
