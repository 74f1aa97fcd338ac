"""The subnet through the SDK: blocks, metagraph, commitments and weights, as they are and as they were."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

import sn37
from sn37.chain import Metagraph, StatePruned, Subnet, weights_version
from sn37.chain.reads import _submission
from sn37.errors import ChainFault, ConfigError
from sn37.submission import ModelId

TEXT = ModelId("ann", "model", "a" * 40, "A" * 43 + "=", 4).to_text()
START = 5_200_000


# Blocks -------------------------------------------------------------------------------------------


def test_head_hash_and_time_are_the_chains(chain, subnet):
    chain.advance(7)
    mine = subnet()
    assert mine.head() == START + 7
    assert mine.block_hash(START + 3) == chain.block_hash(START + 3)
    assert mine.timestamp(START + 3) == datetime(2025, 3, 1, tzinfo=UTC) + timedelta(seconds=36)


def test_a_node_that_pruned_its_state_still_knows_the_newest_hashes(chain, subnet):
    chain.advance(3_000)
    chain.prune(START + 2_990)
    mine = subnet()
    assert mine.block_hash(START + 1_000) == chain.block_hash(START + 1_000)
    assert mine.block_hash(START + 2_990) == chain.block_hash(START + 2_990)
    assert mine.block_hash(START + 3_000) == chain.block_hash(START + 3_000)
    for ask in (lambda: mine.block_hash(START + 500), lambda: mine.timestamp(START + 1_000)):
        with pytest.raises(StatePruned, match="use an archive node"):
            ask()


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.block_hash(START + 1),
        lambda s: s.timestamp(START + 1),
        lambda s: s.metagraph(block=START + 1),
        lambda s: s.submissions(START + 1),
        lambda s: s.validator_weights(START + 1),
        lambda s: s.trusted(1, 0, START + 1),
        lambda s: s.block_hash(3),
    ],
)
def test_a_block_that_is_not_there_is_a_fault_never_the_head(chain, subnet, ask):
    naps = []
    with pytest.raises(ChainFault, match=r"sqlite://.*: reading .* failed: the chain has no (such )?block"):
        ask(subnet(naps=naps))
    assert naps == []  # asking again would not help


# Metagraph ----------------------------------------------------------------------------------------


def test_the_metagraph_tells_who_is_who(chain, subnet, keys):
    subnet("Val").set_weights({keys("Ann").ss58_address: 3, keys("Ben").ss58_address: 1})
    chain.advance_to(chain.next_step(37))
    graph = subnet().metagraph()
    validator, _, ann, ben, _ = graph.neurons
    assert (graph.netuid, graph.block) == (37, chain.head())
    assert graph.hotkeys[2] == ann.hotkey == keys("Ann").ss58_address
    assert (validator.stake, validator.validator_permit, ann.validator_permit) == (150_000.0, True, False)
    assert (ann.incentive, ben.incentive) == pytest.approx((0.75, 0.25), abs=1e-4)
    assert (ann.trust, validator.validator_trust) == (None, 1.0)
    assert (validator.last_update, ann.last_update) == (START + 1, 0)
    assert graph.uid_of(keys("Ben").ss58_address) == 3
    assert graph.uid_of(keys("Nobody").ss58_address) is None
    assert graph.neuron(keys("Ben").ss58_address) == ben


def test_other_subnets_have_their_own_metagraph(chain, subnet, keys):
    chain.register(1, keys("Zoe").ss58_address, stake=5, permit=True)
    assert subnet().metagraph(1).hotkeys == (keys("Zoe").ss58_address,)
    assert subnet().metagraph(18).neurons == ()
    with pytest.raises(ChainFault, match="the chain has no subnet 99"):
        subnet().metagraph(99)


def test_a_past_block_shows_the_neurons_of_that_time(chain, subnet, keys):
    chain.advance(10)
    chain.set_stake(37, keys("Val").ss58_address, 1)
    chain.replace(37, 3, keys("Dan").ss58_address)
    assert subnet().metagraph(block=START).neurons[0].stake == 150_000.0
    assert subnet().metagraph(block=START).hotkeys[3] == keys("Ben").ss58_address
    assert subnet().metagraph().hotkeys[3] == keys("Dan").ss58_address


def test_trusted_are_those_with_permit_and_stake_at_that_block(chain, subnet, keys):
    for name, stake, permit in (("R", 10_000, True), ("S", 9_999.9, True), ("T", 50_000, False)):
        chain.register(1, keys(name).ss58_address, stake=stake, permit=permit)
    chain.advance(5)
    chain.set_stake(1, keys("S").ss58_address, 20_000)
    assert subnet().trusted(1, 10_000, START) == {keys("R").ss58_address}
    assert subnet().trusted(1, 10_000) == {keys("R").ss58_address, keys("S").ss58_address}
    assert subnet().trusted(18, 0) == frozenset()


def test_a_metagraph_shows_itself_and_escapes_what_is_foreign(chain, subnet):
    html = subnet().metagraph()._repr_html_()
    assert html.count("<tr>") == 6
    assert "Subnet 37 at block 5200000: 5 neurons" in html
    assert html.count("<td>-</td>") == 10, "absent are trust and the block of weights never set"
    assert "neurons=5" in repr(subnet().metagraph())
    from sn37.chain import Neuron

    odd = Metagraph(37, 1, (Neuron(0, "<script>", "c", 0.0, False, 0.0, 0.0, 0.0, 0),))
    assert "<script>" not in odd._repr_html_()


# Commitments --------------------------------------------------------------------------------------


def test_a_commitment_reads_back_as_a_submission(subnet, keys):
    block = subnet("Ann").commit(TEXT)
    hotkey = keys("Ann").ss58_address
    assert block == START + 1
    assert subnet().committed(hotkey) == (block, TEXT)
    (found,) = subnet().submissions()
    assert (found.hotkey, found.uid, found.block, found.text) == (hotkey, 2, block, TEXT)
    assert found.model == ModelId.from_text(TEXT)
    assert subnet().committed(keys("Ben").ss58_address) is None


def test_submissions_come_by_uid_and_of_registered_hotkeys_only(chain, subnet, keys):
    for name in ("Cat", "Ann", "Ben"):
        subnet(name).commit(TEXT)
    chain.replace(37, 3, keys("Dan").ss58_address)
    assert [s.uid for s in subnet().submissions()] == [2, 4]


def test_submissions_of_a_past_block_are_those_of_that_time(chain, subnet):
    first = subnet("Ann").commit(TEXT)
    chain.advance(100)
    second = subnet("Ann").commit("later")
    assert [(s.block, s.text) for s in subnet().submissions(second - 1)] == [(first, TEXT)]
    assert [(s.block, s.text) for s in subnet().submissions(second)] == [(second, "later")]
    assert subnet().submissions(first - 1) == ()


HOSTILE = [
    b"",
    b"\x00" * 128,
    b"\xff\xfe\xfd",
    b"a" * 128,
    b":" * 128,
    b"::::",
    b"0x41:b:c:d:e",
    "ann:mo\u202edel:x:y:4".encode(),
    ("ü" * 64).encode(),
    b"<script>alert(1)</script>",
    b"../..:x:" + b"a" * 40 + b":" + b"A" * 43 + b"=:4",
    b"a:b:" + b"a" * 40 + b":" + b"A" * 43 + b"=:-1",
    b"a:b:" + b"a" * 40 + b":" + b"A" * 43 + b"=:" + "٣".encode(),
]


def test_nothing_a_miner_commits_raises_or_hides_the_others(chain, subnet, keys, monkeypatch):
    from sn37.devnet.chain import extrinsics

    for number, raw in enumerate(HOSTILE):
        chain.register(37, keys(f"h{number}").ss58_address)
        call = extrinsics.encode(
            "Commitments", "set_commitment", {"netuid": 37, "info": {"fields": [{f"Raw{len(raw)}": raw}]}}
        )
        signer = keys(f"h{number}")
        message = extrinsics.payload(chain.store.origin.genesis, signer.ss58_address, 0, call)
        chain.include(extrinsics.Extrinsic(signer.ss58_address, 0, call, signer.sign(message)))
    subnet("Ann").commit(TEXT)
    good, *bad = subnet().submissions()
    assert good.model is not None
    assert len(bad) == len(HOSTILE)
    for submission in bad:
        assert submission.model is None
        assert submission.fault.startswith("malformed commitment")


@pytest.mark.parametrize(
    "record",
    [
        None,
        "text",
        {},
        {"block": "x", "info": {"fields": []}},
        {"block": 1, "info": None},
        {"block": 1, "info": {"fields": "Raw1"}},
        {"block": 1, "info": {"fields": ["None"]}},
        {"block": 1, "info": {"fields": [{"Raw1": "0x41"}, {"Raw1": "0x42"}]}},
        {"block": 1, "info": {"fields": [{"Raw1": "0x4"}]}},
        {"block": 1, "info": {"fields": [{"Raw1": None}]}},
        {"block": 1, "info": {"fields": [{"Raw1": {"a": 1}}]}},
        {"block": 1, "info": {"fields": [{5: "0x41"}]}},
        {"block": 1, "info": {"fields": [{"BlakeTwo256": "0x" + "41" * 32}]}},
        {"block": 1, "info": {"fields": [{"TimelockEncrypted": {"encrypted": "0x00", "reveal_round": 5}}]}},
        {"block": 1, "info": {"fields": [{"Raw1": [1, 2, 300]}]}},
        {"block": 1, "info": {"fields": [{"Raw9": 10**9}]}},
    ],
)
def test_a_record_of_any_other_kind_is_a_malformed_submission(record):
    assert _submission("hotkey", 3, record).fault == "malformed commitment: it is not one Raw field"


def test_a_node_without_the_state_is_told_apart_and_the_head_can_stand_in(chain, subnet):
    first = subnet("Ann").commit(TEXT)
    chain.advance(300)
    late = subnet("Ben").commit(TEXT)
    chain.prune(late)
    naps = []
    for ask in (
        lambda s: s.submissions(late - 1),
        lambda s: s.metagraph(block=late - 1),
        lambda s: s.validator_weights(late - 1),
        lambda s: s.trusted(1, 0, late - 1),
    ):
        with pytest.raises(StatePruned, match="use an archive node"):
            ask(subnet(naps=naps))
    assert naps == []  # asking again would not help
    assert [s.block for s in subnet().submissions(late - 1, or_head=True)] == [first]
    assert subnet().block_hash(late - 1) == chain.block_hash(late - 1)


@pytest.mark.parametrize("text", ["", "x" * 129, "ü" * 65])
def test_a_text_the_chain_cannot_hold_is_refused_before_it_is_sent(chain, subnet, text):
    with pytest.raises(ConfigError, match="bytes; the chain takes 1 to 128"):
        subnet("Ann").commit(text)
    assert chain.head() == START


@pytest.mark.parametrize(
    ("name", "message"), [("Stranger", "is not registered"), ("Ann", "the commitment rate limit is 100 blocks")]
)
def test_a_commitment_the_chain_refuses_is_a_fault_that_is_not_repeated(subnet, name, message):
    subnet("Ann").commit(TEXT)
    naps = []
    with pytest.raises(ChainFault, match=rf"sqlite://.*: committing to subnet 37 failed: .*{message}"):
        subnet(name, naps=naps).commit("again")
    assert naps == []


# Weights ------------------------------------------------------------------------------------------


def test_weights_are_set_and_read_back_by_hotkey(chain, subnet, keys):
    ann, ben = keys("Ann").ss58_address, keys("Ben").ss58_address
    result = subnet("Val").set_weights({ann: 0.25, ben: 0.75})
    assert (result.outcome, result.block, result.dropped) == ("set", START + 1, ())
    assert bool(result)
    assert str(result) == "weights set at block 5200001"
    found = subnet().validator_weights()
    assert found == {keys("Val").ss58_address: {ann: pytest.approx(0.25, abs=1e-4), ben: pytest.approx(0.75, abs=1e-4)}}
    assert sum(found[keys("Val").ss58_address].values()) == pytest.approx(1)
    assert subnet().validator_weights(START) == {}


def test_too_soon_is_an_outcome_that_says_when(chain, subnet, keys):
    ann = keys("Ann").ss58_address
    subnet("Val").set_weights({ann: 1})
    result = subnet("Val").set_weights({ann: 1})
    assert (result.outcome, result.next_block) == ("too soon", START + 101)
    assert not result
    assert "possible from block 5200101" in str(result)
    chain.advance_to(result.next_block - 1)
    assert subnet("Val").set_weights({ann: 1}).outcome == "too soon"
    chain.advance_to(result.next_block)
    assert subnet("Val").set_weights({ann: 1}).outcome == "set"


def test_a_commit_reveal_subnet_gets_sealed_weights(chain, subnet, keys):
    chain.set_rules(37, commit_reveal=True)
    result = subnet("Val").set_weights({keys("Ann").ss58_address: 1})
    assert (result.outcome, result.block) == ("committed", START + 1)
    assert result.reveal_round > 0
    assert "revealed at drand round" in str(result)
    assert subnet().validator_weights() == {}
    assert subnet("Val").set_weights({keys("Ann").ss58_address: 1}).outcome == "too soon"
    chain.reveal(37, keys("Val").ss58_address, {keys("Ann").ss58_address: 1})
    assert subnet().validator_weights() == {keys("Val").ss58_address: {keys("Ann").ss58_address: 1.0}}


def test_the_weights_carry_the_packages_version(chain, subnet, keys):
    chain.set_rules(37, weights_version=weights_version())
    assert subnet("Val").set_weights({keys("Ann").ss58_address: 1}).outcome == "set"
    chain.set_rules(37, weights_version=weights_version() + 1)
    with pytest.raises(ChainFault, match="is older than"):
        subnet("Vic").set_weights({keys("Ann").ss58_address: 1})


@pytest.mark.parametrize(("version", "key"), [("0.1.0", 10), ("2.4.1", 2041), ("11.3.0", 11030), ("1.2.3rc1", 1023)])
def test_the_version_key_is_1000_major_10_minor_patch(version, key):
    assert weights_version(version) == key
    assert weights_version() == weights_version(sn37.__version__)


def test_a_version_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"major\.minor\.patch"):
        weights_version("next")


def test_hotkeys_that_left_are_left_out_and_told(subnet, keys):
    gone, ann = keys("Gone").ss58_address, keys("Ann").ss58_address
    result = subnet("Val").set_weights({gone: 5, ann: 1})
    assert (result.outcome, result.dropped) == ("set", (gone,))
    assert "(1 unregistered hotkeys left out)" in str(result)
    assert subnet().validator_weights() == {keys("Val").ss58_address: {ann: 1.0}}
    with pytest.raises(ChainFault, match="none of the weighted hotkeys is registered"):
        subnet("Vic").set_weights({gone: 1})


@pytest.mark.parametrize("values", [[], [0.0], [-1.0], [float("nan")], [float("inf")]])
def test_weights_that_are_none_are_refused(subnet, keys, values):
    with pytest.raises(ValueError, match="weights are finite"):
        subnet("Val").set_weights(dict(zip([keys("Ann").ss58_address], values, strict=False)))


@pytest.mark.parametrize(("name", "message"), [("Stranger", "is not registered"), ("Ann", "holds no validator permit")])
def test_who_may_not_set_weights_meets_a_fault(subnet, keys, name, message):
    with pytest.raises(ChainFault, match=rf"setting the weights of subnet 37 failed: .*{message}"):
        subnet(name).set_weights({keys("Ben").ss58_address: 1})


def test_weights_meant_for_a_uids_earlier_holder_count_for_nobody(chain, subnet, keys):
    ann, ben = keys("Ann").ss58_address, keys("Ben").ss58_address
    subnet("Val").set_weights({ann: 1, ben: 1})
    subnet("Vic").set_weights({ann: 1})
    chain.advance(5)
    chain.replace(37, 2, keys("Dan").ss58_address)
    chain.replace(37, 1, keys("Eve").ss58_address, stake=9, permit=True)
    assert subnet().validator_weights() == {keys("Val").ss58_address: {ben: 1.0}}
    assert subnet().validator_weights(chain.head() - 1)[keys("Vic").ss58_address] == {ann: 1.0}


# Where it runs ------------------------------------------------------------------------------------


def test_it_blocks_inside_a_running_event_loop(subnet):
    async def cell():
        return subnet().head()

    assert asyncio.run(cell()) == START


def test_one_subnet_serves_several_threads(subnet):
    mine, found = subnet(), []
    threads = [threading.Thread(target=lambda: found.append(mine.metagraph().block)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [START] * 8


def test_a_closed_subnet_opens_again_and_leaves_no_thread(chain):
    before = threading.active_count()
    with Subnet(chain.url, 37) as mine:
        assert mine.head() == START
    assert threading.active_count() == before
    assert mine.head() == START
    mine.close()
    del mine
    assert threading.active_count() == before


def test_a_subnet_that_is_forgotten_leaves_no_thread(chain):
    before = threading.active_count()
    mine = Subnet(chain.url, 37)
    mine.head()
    del mine
    assert threading.active_count() == before
