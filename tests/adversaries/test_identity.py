"""Everything follows the hotkey: uids that change hands inherit nothing and take nothing away."""

import pytest


def stranger(small, name):
    from bittensor import Wallet

    wallet = Wallet(name, "default", str(small.root / "wallets"))
    wallet.create_new_coldkey(use_password=False, suppress=True)
    wallet.create_new_hotkey(use_password=False, suppress=True)
    return str(wallet.hotkey.ss58_address)


def weights(small):
    with small.subnet() as subnet:
        return subnet.validator_weights().get(small.hotkey("validator"), {})


def test_a_hotkey_that_comes_back_under_another_uid_keeps_what_it_earned(small, tmp_path):
    winner = small.submit("winner", 0.0)
    small.submit("second", 0.5)
    small.next_epoch()
    first = small.epoch(tmp_path)
    assert first.plan.manifest.uids[winner] == 1
    heir = stranger(small, "heir")
    small.chain.replace(37, 1, heir)
    small.chain.register(37, winner)
    small.next_epoch()
    second = small.epoch(tmp_path)
    assert second.plan.manifest.uids[winner] == 3
    assert {p.submission.hotkey: p.why for p in second.plan.picks}[winner] == "kept"
    assert second.decision.winner == winner
    assert weights(small) == {winner: 1.0}


def test_who_takes_over_a_uid_before_the_weights_are_set_gets_nothing(small, tmp_path):
    small.submit("winner", 0.0)
    second = small.submit("second", 0.5)
    small.next_epoch()
    small.epoch(tmp_path)
    heir = stranger(small, "heir")
    small.next_epoch()
    epoch = small.epoch(tmp_path, after_decide=lambda: small.chain.replace(37, 1, heir))
    assert epoch.decision.winner == small.hotkey("winner")
    assert epoch.publication.weights == {}
    assert "the old weights stand" in epoch.publication.chain
    assert heir not in weights(small) and second not in weights(small)
    # The next epoch is judged among those who are there.
    small.next_epoch()
    assert small.epoch(tmp_path).decision.winner == second
    assert heir not in weights(small)


def test_a_model_changed_after_the_sync_block_is_judged_as_it_was_then(small, tmp_path):
    small.chain.set_rules(37, commitment_rate_limit=0)
    small.submit("honest", 0.5)
    small.submit("switcher", 1.0)
    small.next_epoch()
    small.submit("switcher", 0.0, register=False)
    epoch = small.epoch(tmp_path)
    assert epoch.losses[small.hotkey("switcher")] > epoch.losses[small.hotkey("honest")]
    assert epoch.decision.winner == small.hotkey("honest")


def test_a_submission_that_knows_the_samples_comes_too_late(small, tmp_path):
    small.submit("honest", 0.5)
    sync_block = small.next_epoch()
    small.chain.advance(400)
    next_block = sync_block + 360
    assert small.chain.head() > next_block
    # Committed after the next sync block's hash is known, and within the pick-up delay before the one after it.
    small.chain.advance_to(next_block + 352)
    small.submit("late", 0.0)
    small.chain.advance_to(next_block + 360)
    epoch = small.epoch(tmp_path)
    assert "committed too late" in epoch.faults[small.hotkey("late")]
    assert epoch.decision.winner == small.hotkey("honest")


@pytest.mark.parametrize("leaves", [True, False])
def test_the_weights_of_who_left_are_the_rests(small, tmp_path, leaves):
    first = small.submit("first", 0.5)
    small.next_epoch()
    small.epoch(tmp_path, figures={"alpha": 0.5})
    second = small.submit("second", 0.0)
    small.next_epoch()
    if leaves:
        small.chain.replace(37, 1, stranger(small, "heir"))
    small.chain.advance(100)
    epoch = small.epoch(tmp_path, figures={"alpha": 0.5})
    expected = {second: 1.0} if leaves else {first: 0.5, second: 0.5}
    assert epoch.publication.weights == pytest.approx(expected)
