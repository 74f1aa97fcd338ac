"""Where a training starts: who leads is read off the chain once, and stays the start of that training."""

import pytest

from sn37.chain import Subnet, open_wallet
from sn37.errors import ConfigError
from sn37.miner.starts import PRETRAINING, Start, find_start
from sn37.submission import ModelId

COMMIT = "c0ffee" + "0" * 34
MINERS = {  # name -> (netuid, what it commits, weight it gets)
    "ann": (37, "ann/other:{commit}:{hash}:8", 0.5),
    "bob": (37, "bob/tiny:{commit}:{hash}:7", 0.2),
    "cem": (37, "cem/tiny:{commit}:{hash}:7", 0.3),
    "dag": (37, "anything", 0.9),
    "eva": (PRETRAINING, "eva/small:{commit}:{hash}:1", 0.1),
    "fay": (PRETRAINING, "fay/large:{commit}:{hash}:2", 0.9),
}


@pytest.fixture
def two_subnets(outside, wallet):
    """This subnet and subnet 9 on one chain, both of the same form, with incentives."""
    chain = outside.chain
    for netuid in (37, PRETRAINING):
        validator = wallet(f"validator-{netuid}")
        chain.register(netuid, validator.hotkey.ss58_address, stake=500_000.0, permit=True)
        weights = {}
        for name, (where, text, weight) in MINERS.items():
            if where == netuid:
                mine = wallet(name)
                chain.register(netuid, mine.hotkey.ss58_address)
                with Subnet(chain.url, netuid, wallet=mine, attempts=1) as subnet:
                    subnet.commit(text.replace("/", ":").format(commit=COMMIT, hash="A" * 43 + "="))
                weights[mine.hotkey.ss58_address] = weight
        with Subnet(chain.url, netuid, wallet=validator, attempts=1) as subnet:
            chain.advance(200)
            assert subnet.set_weights(weights)
        chain.advance_to(chain.next_step(netuid))
    return outside


def test_the_leader_has_the_highest_incentive_of_its_competition(two_subnets, competition, tmp_path):
    start = find_start("leader", tmp_path, competition, two_subnets.subnet, two_subnets.hub())
    assert start.model == f"cem/tiny@{COMMIT}"
    assert start.why.startswith("uid 4 of subnet 37, incentive 0.15")


def test_the_best_model_of_subnet_9_is_found_on_the_same_network(two_subnets, competition, tmp_path):
    start = find_start("sn9", tmp_path, competition, two_subnets.subnet, two_subnets.hub())
    assert start.model == f"fay/large@{COMMIT}"
    assert "of subnet 9, incentive 0.9" in start.why


def test_a_training_keeps_its_start_whoever_leads_later(two_subnets, wallet, competition, tmp_path):
    first = find_start("leader", tmp_path, competition, two_subnets.subnet, two_subnets.hub())
    later = ModelId("cem", "better", COMMIT, "A" * 43 + "=", 7)
    with Subnet(
        two_subnets.chain.url, 37, wallet=open_wallet("cem", "default", tmp_path / "wallets"), attempts=1
    ) as subnet:
        subnet.commit(later.to_text())
    assert find_start("leader", tmp_path, competition, two_subnets.subnet, two_subnets.hub()) == first
    anew = find_start("leader", tmp_path / "other", competition, two_subnets.subnet, two_subnets.hub())
    assert anew.model == f"cem/better@{COMMIT}"


def test_nobody_leads_where_nobody_has_incentive(outside, competition, tmp_path):
    with pytest.raises(ConfigError, match="nobody with a model for competition 7 has incentive on subnet 37"):
        find_start("leader", tmp_path, competition, outside.subnet, outside.hub())
    assert list(tmp_path.glob("start.json")) == []


def test_a_repo_stands_for_its_newest_commit_then(outside, competition, model, tmp_path):
    commit = outside.hub().publish(model, "alice/tiny", private=False)
    start = find_start("alice/tiny", tmp_path / "run", competition, outside.subnet, outside.hub())
    assert start == Start("alice/tiny", f"alice/tiny@{commit}")
    outside.hub().publish_file("alice/tiny", "generation_config.json", b"{}")
    assert find_start("alice/tiny", tmp_path / "run", competition, outside.subnet, outside.hub()) == start


def test_a_folder_is_taken_as_it_is(outside, competition, model, tmp_path):
    before = outside.server.stats.requests
    start = find_start(str(model), tmp_path, competition, silent_chain(), outside.hub())
    assert start == Start(str(model), str(model))
    assert outside.server.stats.requests == before


def silent_chain():
    """A folder needs none."""
    return Subnet("ws://127.0.0.1:9", 37, attempts=1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("nowhere", "nowhere is no folder; expected one, user/repo, user/repo@<full commit>, leader or sn9"),
        ("alice/tiny@main", "'main' is no full commit; expected 40"),
        ("alice/nothing", "alice/nothing is no folder here, and the model repo alice/nothing is not there"),
    ],
)
def test_what_is_no_model_is_one_sentence(outside, competition, tmp_path, asked, message):
    with pytest.raises(ConfigError, match=message):
        find_start(asked, tmp_path, competition, outside.subnet, outside.hub())
