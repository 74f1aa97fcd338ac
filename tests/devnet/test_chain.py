"""The embedded chain: blocks, registrations, history, and the SDK's real clients over it."""

import hashlib
from datetime import UTC, datetime, timedelta

import bittensor as bt
import pytest
from bittensor.sp_core import Keypair

from sn37.devnet.chain import Chain, Rules, open_substrate
from sn37.errors import ChainFault, ConfigError

START = 5_200_000


def key(name):
    return Keypair.create_from_uri(f"//{name}")


def address(name):
    return key(name).ss58_address


@pytest.fixture
def chain(tmp_path):
    made = Chain.create(tmp_path / "chain.db", start_block=START)
    yield made
    made.close()


@pytest.fixture
def client(chain, sdk):
    return sdk(chain)


def commit(client, name, raw, netuid=37):
    call = bt.calls.Commitments.set_commitment(netuid=netuid, info={"fields": [{f"Raw{len(raw)}": raw}]})
    return client.submit_call(call, key(name), signer="hotkey")


def weight(client, name, weights, **options):
    return client.execute(bt.SetWeights(netuid=37, weights=weights, **options), key(name))


# Blocks -------------------------------------------------------------------------------------------


def test_block_hashes_are_the_hash_chain_of_the_seed(chain):
    chain.advance(3)
    parent = "0x" + hashlib.sha256(f"devnet:genesis:{START - 1}".encode()).hexdigest()
    for number in range(START, START + 4):
        parent = "0x" + hashlib.sha256(f"devnet:{parent}:{number}".encode()).hexdigest()
        assert chain.block_hash(number) == parent


def test_another_seed_has_other_hashes_and_what_happens_has_no_part_in_them(tmp_path):
    same, busy, other = (
        Chain.create(tmp_path / f"{name}.db", seed=seed) for name, seed in (("a", "x"), ("b", "x"), ("c", "y"))
    )
    busy.register(37, address("Alice"), stake=5)
    for chain in (same, busy, other):
        chain.advance(5)
    assert same.block_hash() == busy.block_hash() != other.block_hash()


def test_blocks_are_twelve_seconds_apart_from_the_start(tmp_path):
    born = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    chain = Chain.create(tmp_path / "c.db", start_block=100, started_at=born)
    assert chain.advance(10) == 110
    assert chain.now() == born + timedelta(seconds=120)
    assert chain.timestamp(100) == born


def test_blocks_pass_by_the_wall_clock_when_told_so(tmp_path):
    now = [1000.0]
    chain = Chain.create(tmp_path / "c.db", start_block=100, block_time_s=0.5, wall_clock=lambda: now[0])
    assert chain.head() == 100
    now[0] += 1.6
    assert chain.head() == 103
    assert chain.advance(10) == 113
    now[0] += 0.4
    assert chain.head() == 114
    chain.set_block_time(None)
    now[0] += 100
    assert chain.head() == 114


def test_a_call_waits_for_its_block_when_blocks_pass_by_the_wall_clock(chain, client):
    chain.register(37, address("Bob"))
    chain.set_block_time(0.3)
    result = commit(client, "Bob", b"hello")
    assert result.success
    assert int(result.extrinsic_id.split("-")[0]) <= chain.head()


def test_advancing_past_many_steps_equals_advancing_block_by_block(tmp_path, sdk):
    chains = [Chain.create(tmp_path / f"{n}.db", start_block=START) for n in range(2)]
    for chain in chains:
        chain.register(37, address("Alice"), stake=10, permit=True)
        chain.register(37, address("Bob"))
        assert weight(sdk(chain), "Alice", {1: 1.0}).success
    chains[0].advance(800)
    for _ in range(800):
        chains[1].advance()
    assert chains[0].neurons(37) == chains[1].neurons(37)
    assert chains[0].block_hash() == chains[1].block_hash()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: Chain.create(path, start_block=0), "block 1 or later"),
        (lambda path: Chain.create(path, started_at=datetime(2026, 1, 1)), "time zone"),
        (lambda path: Chain.create(path, block_time_s=0), "seconds above 0"),
        (lambda path: Chain.create(path, block_time_s=float("nan")), "seconds above 0"),
        (lambda path: Chain.open(path), "there is no chain at"),
        (lambda path: open_substrate(f"sqlite://host{path}"), "names no chain"),
        (lambda path: open_substrate(f"sqlite://{path}"), "there is no chain at"),
    ],
)
def test_a_chain_that_cannot_be_is_refused_by_name_and_leaves_no_file(tmp_path, make, message):
    with pytest.raises(ConfigError, match=message):
        make(tmp_path / "c.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to look at" * 9])
def test_a_file_that_is_no_chain_is_named(tmp_path, content):
    file = tmp_path / "c.db"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.db is no chain"):
        Chain.open(file)
    assert file.read_bytes() == content


def test_a_full_disk_is_a_fault_that_leaves_nothing_half_done(chain):
    chain.store.connection.execute("PRAGMA max_page_count = 1")  # as on a full disk
    head, neurons = chain.head(), chain.neurons(37)
    with pytest.raises(ChainFault, match=r"chain\.db cannot be written: database or disk is full"):
        for number in range(200):
            chain.register(37, address(f"m{number}"))
    assert chain.head() == head
    assert len(chain.neurons(37)) == number >= len(neurons)
    chain.store.close()
    assert chain.register(37, address("late")) == number


def test_an_existing_file_is_never_overwritten(chain):
    with pytest.raises(ConfigError, match="exists already"):
        Chain.create(chain.store.path)


# Neurons ------------------------------------------------------------------------------------------


def test_a_full_subnet_gives_away_the_uid_that_earns_least_after_immunity(chain):
    chain.set_rules(37, max_uids=3, immunity_blocks=10)
    assert [chain.register(37, address(name)) for name in ("A", "B", "C")] == [0, 1, 2]
    chain.advance(10)
    assert chain.register(37, address("D")) == 0  # all equal: the oldest registration, then the lowest uid
    assert chain.register(37, address("E")) == 1  # D is immune
    assert [n.hotkey for n in chain.neurons(37)] == [address("D"), address("E"), address("C")]


def test_a_uid_that_changed_hands_inherits_nothing(chain, client):
    for name, stake in (("Alice", 10), ("Bob", 0), ("Carol", 10)):
        chain.register(37, address(name), stake=stake, permit=stake > 0)
    assert weight(client, "Alice", {1: 1.0}).success
    assert weight(client, "Carol", {1: 1.0}).success
    chain.advance_to(chain.next_step(37))
    assert chain.neurons(37)[1].incentive == 65_535
    chain.replace(37, 1, address("Dave"))
    chain.replace(37, 0, address("Eve"), stake=10, permit=True)
    assert chain.neurons(37)[1].incentive == 0
    assert client.weights.weights(37) == {2: {1: 1.0}}  # Eve has no weights; Carol's stand until she sets new ones
    chain.advance_to(chain.next_step(37))
    assert chain.neurons(37)[1].incentive == 0  # ... but they were meant for Bob


def test_governing_holds_also_against_calls_that_wait_for_their_block(tmp_path, sdk):
    now = [0.0]
    chain = Chain.create(tmp_path / "c.db", block_time_s=10.0, wall_clock=lambda: now[0])
    for name in ("Alice", "Bob"):
        chain.register(37, address(name), stake=10, permit=True)
    client = sdk(chain)
    for name in ("Alice", "Bob"):
        intent = bt.SetWeights(netuid=37, weights={0: 1, 1: 1})
        assert client.execute(intent, key(name), wait_for_inclusion=False, wait_for_finalization=False).success
    chain.set_stake(37, address("Alice"), 99)
    chain.replace(37, 1, address("Eve"))
    now[0] = 15.0
    alice, eve = chain.neurons(37)
    assert alice.stake == 99 * 10**9
    assert alice.last_update == chain.head()
    assert (eve.hotkey, eve.last_update, eve.permit) == (address("Eve"), 0, False)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda c: c.register(37, address("Alice")), "registered on subnet 37 already"),
        (lambda c: c.register(38, address("Alice")), "no subnet 38"),
        (lambda c: c.register(37, address("Bob"), stake=-1), "impossible"),
        (lambda c: c.replace(37, 5, address("Bob")), "no uid 5"),
        (lambda c: c.set_stake(37, address("Bob"), 1), "not registered"),
        (lambda c: c.set_permit(37, address("Bob"), True), "not registered"),
        (lambda c: c.reveal(37, address("Alice"), {address("Alice"): 1}), "no sealed weights"),
        (lambda c: c.set_rules(37, tempo=0), "tempo"),
        (lambda c: c.advance(-1), "cannot advance"),
    ],
)
def test_governing_that_makes_no_sense_is_refused_and_changes_nothing(chain, act, message):
    chain.register(37, address("Alice"), stake=7)
    before = chain.neurons(37), chain.head(), chain.netuids
    with pytest.raises(ValueError, match=message):
        act(chain)
    assert (chain.neurons(37), chain.head(), chain.netuids) == before


# The SDK's clients --------------------------------------------------------------------------------


def test_the_sdk_reads_blocks(chain, client):
    chain.advance(4)
    info = client.block_info(START + 2)
    assert client.block == client.finalized_block == START + 4
    assert (info.number, info.hash) == (START + 2, chain.block_hash(START + 2))
    assert info.header["parentHash"] == chain.block_hash(START + 1)
    assert info.timestamp == client.timestamp(START + 2) == chain.timestamp(START + 2)
    assert client.block_info(START + 5) is None
    assert client.block_time() == 12.0


def test_the_sdk_streams_headers(chain, client):
    chain.advance(2)
    assert client.wait_for_block(START + 1, timeout=30).number >= START + 1


def test_the_sdk_reads_the_metagraph_and_the_neurons(chain, client):
    chain.register(37, address("Alice"), address("Cold"), stake=123.5, permit=True)
    chain.register(37, address("Bob"))
    assert commit(client, "Bob", b"text").success
    graph = client.subnets.metagraph(37)
    alice, bob = graph.neurons
    assert (graph.name, graph.block, graph.tempo) == ("Finetuning", START + 1, 360)
    assert (alice.hotkey, alice.coldkey, alice.validator_permit) == (address("Alice"), address("Cold"), True)
    assert alice.total_stake.rao == 123_500_000_000
    assert (bob.commitment.data, bob.commitment.block) == ("text", START + 1)
    assert client.subnets.metagraph(99) is None
    records = client.neurons.all(37, lite=False)
    assert [n.hotkey for n in records] == [address("Alice"), address("Bob")]
    assert records[0].total_stake.rao == 123_500_000_000
    assert client.neurons.uid(hotkey_ss58=address("Bob"), netuid=37) == 1


def test_the_sdk_reads_all_commitments_also_of_those_who_left(chain, client):
    chain.register(37, address("Alice"))
    chain.register(37, address("Bob"))
    assert commit(client, "Alice", b"a").success
    assert commit(client, "Bob", b"b").success
    chain.replace(37, 0, address("Carol"))
    found = client.subnets.commitments(37)
    assert {hotkey: (c.data, c.uid) for hotkey, c in found.items()} == {
        address("Alice"): ("a", None),
        address("Bob"): ("b", 1),
    }


def test_the_sdk_sets_weights_and_reads_them_and_the_step_makes_them_incentive(chain, client):
    for name, stake in (("Alice", 100), ("Bob", 0), ("Carol", 0)):
        chain.register(37, address(name), stake=stake, permit=stake > 0)
    result = weight(client, "Alice", {1: 3.0, 2: 1.0})
    assert result.success
    assert client.weights.weights(37)[0] == pytest.approx({1: 0.75, 2: 0.25}, abs=1e-4)
    assert chain.next_step(37) == 5_200_167  # 5 200 205 = 361 x 14 405: block + netuid + 1 is divisible by tempo + 1
    chain.advance_to(chain.next_step(37))
    alice, bob, carol = chain.neurons(37)
    assert bob.incentive == pytest.approx(0.75 * 65_535, abs=2)
    assert carol.incentive == pytest.approx(0.25 * 65_535, abs=2)
    assert alice.validator_trust == 65_535


def test_an_item_the_embedded_chain_does_not_keep_is_an_error_by_name(client):
    with pytest.raises(bt.ChainError, match=r"keeps no System\.Account"):
        client.query(("System", "Account"), [address("Alice")])
    with pytest.raises(bt.ChainError, match=r"keeps no map Swap\.AlphaSqrtPrice"):
        client.query_map(("Swap", "AlphaSqrtPrice"))


# History ------------------------------------------------------------------------------------------


def test_the_state_at_a_block_never_changes_once_later_blocks_exist(chain, client):
    for name, stake in (("Alice", 100), ("Bob", 0)):
        chain.register(37, address(name), stake=stake, permit=stake > 0)
    assert commit(client, "Bob", b"first").success
    assert weight(client, "Alice", {1: 1.0}).success
    seen = chain.head()

    def state():
        view = client.at(seen)
        graph = view.subnets.metagraph(37)
        neurons = [(n.hotkey, n.total_stake.rao, n.incentive, n.last_update) for n in graph.neurons]
        commitments = {h: (c.block, c.data) for h, c in view.subnets.commitments(37).items()}
        return neurons, commitments, view.weights.weights(37), graph.block

    before = state()
    chain.advance(400)
    assert commit(client, "Bob", b"second").success
    assert weight(client, "Alice", {0: 1.0}).success
    chain.set_stake(37, address("Alice"), 5)
    chain.replace(37, 1, address("Carol"))
    assert state() == before
    assert before[1] == {address("Bob"): (START + 1, "first")}
    assert client.subnets.metagraph(37).neurons[1].hotkey == address("Carol")


def test_an_unknown_or_pruned_block_is_an_error_never_the_head(chain, client):
    with pytest.raises(bt.ChainError, match="no block"):
        client.at(START + 10).subnets.metagraph(37)
    chain.advance(10)
    chain.prune(START + 5)
    assert client.at(START + 5).subnets.metagraph(37).block == START + 5
    with pytest.raises(bt.ChainError, match="State discarded"):
        client.at(START + 4).subnets.metagraph(37)
    assert client.block_info(START + 6).hash == chain.block_hash(START + 6)
    with pytest.raises(bt.ChainError, match="State discarded"):
        client.block_info(START + 4)  # decoded with the runtime of the parent
    assert client.query(("System", "BlockHash"), [START + 4]) == chain.block_hash(START + 4)


def test_rules_default_to_the_live_subnet():
    rules = Rules()
    assert (rules.tempo, rules.max_uids, rules.weights_rate_limit, rules.commitment_bytes) == (360, 256, 100, 3_100)
