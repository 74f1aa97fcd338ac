"""When weights are set and when not; what never stops an epoch that is decided."""

from dataclasses import replace

import pytest

from sn37 import open_records, validator
from sn37.analysis import frames
from sn37.devnet.chain.state import neurons_at
from sn37.errors import ConfigError
from sn37.records.decision import Publication
from sn37.records.epochs import Records
from sn37.validator.scores import mistakes_of

STRANGER = "5C4hrfjw9DjXZTzV3MwzrrAr9P1MJhSrvWGWqi1eSuyUpnhM"


def last_update(small):
    (me,) = [n for n in neurons_at(small.chain.store, 37, small.chain.head()) if n.hotkey == small.hotkey("validator")]
    return me.last_update


@pytest.fixture
def decided(small, tmp_path):
    """A subnet with one decided epoch, its weights just set."""
    small.submit("best", 0.0)
    small.next_epoch()
    assert small.epoch(tmp_path).publication.chain.startswith("weights set at block")
    return small


def test_unchanged_weights_are_set_again_after_an_hour_and_not_before(decided, tmp_path):
    first = last_update(decided)
    decided.chain.advance_to(first + 299)
    assert decided.epoch(tmp_path).publication.chain == f"unchanged since block {first}"
    assert last_update(decided) == first
    decided.chain.advance(1)
    assert decided.epoch(tmp_path).publication.chain.startswith("weights set")
    assert last_update(decided) == first + 301


def test_changed_weights_are_set_at_once_and_the_rate_limit_is_no_fault(decided, tmp_path):
    first = last_update(decided)
    decided.submit("next", 0.5)
    decided.chain.set_rules(37, weights_rate_limit=1_000)
    decided.chain.replace(37, 1, STRANGER)
    decided.next_epoch()
    epoch = decided.epoch(tmp_path)
    assert epoch.publication.weights == {decided.hotkey("next"): 1.0}
    assert "too soon" in epoch.publication.chain
    assert last_update(decided) == first
    decided.chain.set_rules(37, weights_rate_limit=100)
    assert decided.epoch(tmp_path).publication.chain.startswith("weights set")


def test_sealed_weights_are_committed_once_though_the_chain_shows_the_old_ones(small, tmp_path):
    small.chain.set_rules(37, commit_reveal=True, weights_rate_limit=0)
    small.submit("best", 0.0)
    small.next_epoch()
    assert small.epoch(tmp_path).publication.chain.startswith("weights committed")
    committed = last_update(small)
    small.chain.advance(10)
    assert small.epoch(tmp_path).publication.chain == f"unchanged since block {committed}"
    assert last_update(small) == committed


def test_a_validator_that_is_not_registered_decides_and_is_told(decided, tmp_path):
    decided.chain.replace(37, 0, STRANGER)
    decided.next_epoch()
    epoch = decided.epoch(tmp_path)
    assert epoch.decision.winner == decided.hotkey("best")
    assert "is not registered on netuid 37" in epoch.publication.chain


def test_an_epoch_without_any_submission_changes_nothing(small, tmp_path):
    small.next_epoch()
    epoch = small.epoch(tmp_path)
    assert epoch.decision.winner is None
    assert "the old weights stand" in epoch.publication.chain
    assert "nobody has a finite score" in str(epoch.decided)


def test_when_every_model_fails_the_old_weights_stand(decided, tmp_path):
    decided.chain.set_rules(37, commitment_rate_limit=0)
    decided.submit("best", {"config.json": b"{}"}, register=False)
    decided.next_epoch()
    epoch = decided.epoch(tmp_path)
    assert epoch.decision.winner is None
    assert epoch.publication.weights == {decided.hotkey("best"): 1.0}, "the average is what it was"


def test_a_wandb_that_fails_stops_nothing(small, tmp_path, monkeypatch):
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text("raise RuntimeError('no such account')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    small.submit("best", 0.0)
    small.next_epoch()
    epoch = small.epoch(tmp_path / "home", wandb="offline")
    assert epoch.publication.mirror.endswith("RuntimeError: no such account")
    assert epoch.publication.chain.startswith("weights set")


def test_what_is_published_of_an_epoch_says_what_its_record_says(small, tmp_path):
    small.submit("best", 0.0)
    small.submit("broken", {"config.json": b"{}"})
    small.next_epoch()
    epoch = small.epoch(tmp_path, wandb="offline")
    hub = small.hub(tmp_path, token=small.server.token_of("vali"))
    published = validator.mirror(
        replace(epoch.decided, plan=replace(epoch.plan, settings=replace(epoch.settings, publish_records="vali/rec"))),
        *(epoch.publication, epoch.subnet, hub),
    )
    assert published.mirror.startswith("epoch 1 of 50 in the offline run validator-0-")
    assert published.upload == "1 epoch uploaded to vali/rec, 0 waiting"
    own = Records(tmp_path / "records")
    for source in (tmp_path / "wandb", "hf://vali/rec"):
        there = open_records(source, hub=small.hub(tmp_path), cache=tmp_path / "cache")
        for kind in frames.COLUMNS:
            assert getattr(frames, kind)(there).equals(getattr(frames, kind)(own)), (source, kind)
        assert mistakes_of(there.epoch()) == mistakes_of(own.epoch()) == []


def test_a_competition_changed_after_its_epoch_changes_nothing_that_is_decided(decided, tmp_path):
    before = decided.epoch(tmp_path)
    text = decided.competition_file.read_text()
    decided.competition_file.write_text(text.replace('name = "WORDS"', 'name = "OTHER_WORDS"'))
    after = decided.epoch(tmp_path)
    assert after.decided.epoch == before.decided.epoch
    assert [task.name for task in after.plan.competition.tasks] == ["TEXTS", "WORDS"]
    decided.next_epoch()
    assert [task.name for task in decided.epoch(tmp_path).plan.competition.tasks] == ["TEXTS", "OTHER_WORDS"]


def test_a_competition_changed_in_the_middle_of_its_epoch_is_drawn_and_evaluated_anew(small, tmp_path):
    def stop():
        raise KeyboardInterrupt

    small.submit("best", 0.0)
    small.next_epoch()
    with pytest.raises(KeyboardInterrupt):
        small.epoch(tmp_path, after_fetch=stop)
    text = small.competition_file.read_text()
    small.competition_file.write_text(text.replace("count = 2", "count = 3"))
    epoch = small.epoch(tmp_path).decided.epoch
    assert len(epoch.samples("WORDS")) == 3
    (result,) = epoch.results.values()
    assert result.basis.competition_digest == small.competition.digest


def test_records_of_another_chain_are_not_mixed_with_this_ones(decided, tmp_path):
    (sealed,) = Records(tmp_path / "records").sealed(7)
    sealed.write(replace(sealed.manifest, block_hash="0x" + "ab" * 32))
    with pytest.raises(ConfigError, match="of another chain"):
        decided.epoch(tmp_path)


def test_a_past_epoch_is_decided_and_shown_but_nothing_of_it_is_published(decided, tmp_path):
    past = decided.epoch(tmp_path)
    decided.submit("next", 0.5)
    decided.chain.replace(37, 1, STRANGER)
    decided.next_epoch()
    decided.epoch(tmp_path)
    with decided.subnet() as subnet:
        before = subnet.validator_weights(), last_update(decided)
    decided.chain.advance(400)
    for home in (tmp_path, tmp_path / "fresh"):
        replayed = decided.epoch(home, sync_block=past.plan.sync_block, wandb="offline")
        assert replayed.decision == past.decision
        assert replayed.decided.weights == past.decided.weights
        assert replayed.publication.chain == replayed.publication.mirror
        assert "is past, only the newest epoch is" in replayed.publication.chain
        assert not (home / "wandb").exists()
    with decided.subnet() as subnet:
        assert (subnet.validator_weights(), last_update(decided)) == before


def test_a_look_at_everything_needs_no_wallet_and_sets_nothing(decided, tmp_path):
    first = last_update(decided)
    decided.chain.advance(400)
    shown = decided.epoch(tmp_path / "other", publish=False, wallet="nobody")
    assert shown.decision.winner == decided.hotkey("best")
    assert shown.publication.chain == "not published: publish is off"
    assert last_update(decided) == first


def test_weights_that_come_too_soon_say_from_which_block_on_they_are_taken(decided, tmp_path):
    first = last_update(decided)
    decided.submit("next", 0.5)
    decided.chain.set_rules(37, weights_rate_limit=1_000)
    decided.chain.replace(37, 1, STRANGER)
    decided.next_epoch()
    epoch = decided.epoch(tmp_path)
    possible = epoch.publication.possible_from
    assert possible is not None and first < possible <= first + 1_001
    assert epoch.decided.epoch.read(Publication).possible_from == possible
    decided.chain.advance_to(possible)
    settled = decided.epoch(tmp_path, sync_block=epoch.plan.sync_block)
    assert "is past" in settled.publication.chain, "that epoch is no longer the newest"
    assert decided.epoch(tmp_path).publication.chain.startswith("weights set")
    assert decided.epoch(tmp_path).publication.possible_from is None
