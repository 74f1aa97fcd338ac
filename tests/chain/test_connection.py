"""Time-outs, bounded retries with back-off, lost answers; which chain a name stands for."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time

import pytest
from bittensor import RpcConnectionError
from bittensor._transport.rpc import RpcSession
from faulty_chain import pool_answer
from websockets.sync.server import serve

from sn37.chain import Subnet, WeightsResult
from sn37.chain.connection import CALL_PERIOD_BLOCKS, Connection
from sn37.chain.session import Session
from sn37.errors import ChainFault, ConfigError


def calls_on(chain):
    return len(chain.store.rows("SELECT 1 FROM extrinsics"))


@pytest.mark.parametrize("how", ["refusing", "silent"])
def test_a_chain_that_stumbles_is_asked_again(chain, subnet, how):
    naps = []
    mine = subnet(naps=naps, timeout_s=1.0)
    assert mine.head() == 5_200_000
    naps.clear()
    chain.fail(how, calls=2)
    assert mine.head() == 5_200_000
    assert naps[:2] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("how", "timeout_s", "reason"),
    [("refusing", 60.0, "RpcConnectionError: .*refuse connections"), ("silent", 0.1, "no answer within 0.1 s")],
)
@pytest.mark.parametrize(
    ("ask", "operation"),
    [
        (lambda s: s.head(), "reading the head"),
        (lambda s: s.block_hash(5), "reading block 5"),
        (lambda s: s.timestamp(5), "reading block 5"),
        (lambda s: s.metagraph(18), "reading the metagraph of subnet 18"),
        (lambda s: s.submissions(), "reading the commitments of subnet 37"),
        (lambda s: s.validator_weights(), "reading the weights of subnet 37"),
        (lambda s: s.committed("5F"), "reading the commitment of 5F"),
        (lambda s: s.commit("x"), "reading the commitment of 5"),
        (lambda s: s.set_weights({"5F": 1.0}), "setting the weights of subnet 37"),
    ],
)
def test_a_dead_chain_is_a_fault_that_names_network_and_operation(
    chain, subnet, how, timeout_s, reason, ask, operation
):
    chain.fail(how)
    naps = []
    with pytest.raises(ChainFault, match=rf"^{chain.url}: {operation}.* failed: {reason}.*, 3 attempts$"):
        ask(subnet("Ann", naps=naps, attempts=3, backoff_s=0.5, timeout_s=timeout_s))
    assert naps == [0.5, 1.0]
    assert calls_on(chain) == 0


def test_a_chain_that_recovers_is_used_again(chain, subnet):
    mine = subnet(attempts=1, timeout_s=2.0)
    for how in ("silent", "refusing"):
        chain.fail(how)
        with pytest.raises(ChainFault):
            mine.head()
        chain.recover()
        assert mine.head() == 5_200_000


def test_one_threads_failure_does_not_fail_the_others(chain, subnet):
    mine, found = subnet(), []
    chain.fail("refusing", calls=3)  # fewer than the attempts of one thread, whoever meets them
    threads = [threading.Thread(target=lambda: found.append(mine.metagraph().block)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [5_200_000] * 6


def test_a_commitment_whose_answer_was_lost_is_not_sent_twice(chain, subnet):
    chain.fail("forgetful", calls=1)
    naps = []
    block = subnet("Ann", naps=naps).commit("text")
    assert (block, naps, calls_on(chain)) == (5_200_001, [1.0], 1)


def test_a_commitment_that_repeats_the_last_one_is_sent_all_the_same(chain, subnet):
    first = subnet("Ann").commit("text")
    chain.advance(200)
    assert subnet("Ann").commit("text") == chain.head() > first


@pytest.mark.parametrize("sealed", [False, True])
def test_weights_whose_answer_was_lost_are_not_too_soon(chain, subnet, keys, sealed):
    chain.set_rules(37, commit_reveal=sealed)
    chain.fail("forgetful", calls=1)
    result = subnet("Val").set_weights({keys("Ann").ss58_address: 1.0})
    assert result == WeightsResult("committed" if sealed else "set", 5_200_001)
    assert calls_on(chain) == 1


# Signed calls whose answer is lost ------------------------------------------------------------------


@pytest.fixture
def watching(chain, subnet):
    """Opens the subnet as somebody for whom a block passes with every pause."""

    def as_(name, **options):
        opened = subnet(name, **options)
        opened._connection._sleep = lambda seconds: chain.pass_block()
        return opened

    return as_


@pytest.mark.parametrize("delay_blocks", [1, 2, 7, 15])
def test_a_commitment_that_reaches_the_chain_blocks_after_its_answer_was_lost_is_sent_once(
    chain, watching, delay_blocks
):
    chain.fail("dropping", calls=1, delay_blocks=delay_blocks)
    assert watching("Ann").commit("text") == 5_200_000 + delay_blocks
    for _ in range(20):
        chain.pass_block()
    assert calls_on(chain) == 1


@pytest.mark.parametrize("sealed", [False, True])
def test_weights_that_reach_the_chain_blocks_after_their_answer_was_lost_are_set_once(chain, watching, keys, sealed):
    chain.set_rules(37, commit_reveal=sealed)
    chain.fail("dropping", calls=1, delay_blocks=9)
    result = watching("Val").set_weights({keys("Ann").ss58_address: 1.0})
    assert result == WeightsResult("committed" if sealed else "set", 5_200_009)
    for _ in range(20):
        chain.pass_block()
    assert calls_on(chain) == 1


def test_a_call_that_can_no_longer_arrive_is_sent_again(chain, watching):
    chain.fail("dropping", calls=1)
    block = watching("Ann").commit("text")
    assert calls_on(chain) == 1
    assert block > 5_200_000 + CALL_PERIOD_BLOCKS, "not before the first one is out of date"


def test_an_older_commitment_of_the_same_text_is_not_taken_for_the_lost_one(chain, watching):
    assert watching("Ann").commit("text") == 5_200_001
    chain.advance(200)
    chain.fail("dropping", calls=1, delay_blocks=3)
    assert watching("Ann").commit("text") == 5_200_204
    assert calls_on(chain) == 2


def test_a_chain_that_makes_no_blocks_leaves_a_lost_call_unsent(chain, subnet):
    chain.fail("dropping", calls=1)
    naps = []
    with pytest.raises(ChainFault, match=r"the answer was lost and block 5200016 is not final yet"):
        subnet("Ann", naps=naps).commit("text")
    assert naps[0] == 1.0 and set(naps[1:]) == {12.0}
    assert calls_on(chain) == 0


@pytest.mark.parametrize(
    ("code", "message", "data"),
    [
        (1010, "Invalid Transaction", "Transaction is outdated"),
        (1010, "Invalid Transaction", "Transaction will be valid in the future"),
        (1010, "Invalid Transaction", "Transaction would exhaust the block limits"),
        (1010, "Invalid Transaction", "Transaction has an ancient birth block"),
        (1012, "Transaction is temporarily banned", None),
        (1014, "Priority is too low: (1 vs 2)", "The transaction has too low priority to replace another one."),
        (1016, "Immediately Dropped", "The transaction couldn't enter the pool because of the limit"),
    ],
)
@pytest.mark.parametrize("act", ["commit", "weights"])
def test_what_the_pool_does_not_take_now_is_sent_again_in_a_later_block(
    chain, watching, keys, code, message, data, act
):
    chain.fail("dropping", calls=2, error=pool_answer(code, message, data))
    if act == "commit":
        assert watching("Ann").commit("text") == chain.head()
    else:
        assert watching("Val").set_weights({keys("Ann").ss58_address: 1.0}).block == chain.head()
    assert calls_on(chain) == 1
    assert chain.head() <= 5_200_000 + 2 * 2 + 1


def test_a_call_that_is_in_the_pool_already_is_waited_for(chain, watching):
    chain.fail("dropping", calls=1, delay_blocks=4, error=pool_answer(1013, "Transaction Already Imported", "0xab"))
    assert watching("Ann").commit("text") == 5_200_004
    assert calls_on(chain) == 1


@pytest.mark.parametrize(
    "error",
    [
        pool_answer(1010, "Invalid Transaction", "Transaction has a bad signature"),
        pool_answer(1010, "Invalid Transaction", "Inability to pay some fees (e.g. account balance too low)"),
    ],
)
def test_what_the_chain_refuses_is_not_sent_again(chain, subnet, error):
    chain.fail("dropping", error=error)
    naps = []
    with pytest.raises(ChainFault, match="committing to subnet 37 failed: ChainError"):
        subnet("Ann", naps=naps).commit("text")
    assert naps == []


# Connections ----------------------------------------------------------------------------------------


def test_each_attempt_at_a_chain_that_is_away_is_told_in_one_sentence(chain, subnet, caplog):
    chain.fail("refusing")
    with pytest.raises(ChainFault):
        subnet(attempts=3).head()
    assert len(caplog.messages) == 2  # the third is the fault itself
    assert all(
        text.startswith(f"{chain.url}: reading the head: RpcConnectionError") and text.endswith("; asking again")
        for text in caplog.messages
    )


def test_a_connection_that_does_not_open_is_closed():
    closed = []

    class Unopenable:
        async def connect(self):
            raise RpcConnectionError("no")

        async def close(self):
            closed.append(True)

    session = Session("local", Unopenable)
    with pytest.raises(RpcConnectionError):
        session.call(lambda client: client.block(), 5.0)
    assert closed == [True]
    session.stop()


def test_a_call_that_waits_while_the_node_closes_in_good_order_is_made_again():
    """Over a real websocket and the SDK's own session, which leaves such a call waiting for ever."""

    class OverWebsocket:
        """No more of a substrate than the head, asked of a node."""

        def __init__(self, url):
            self.session = RpcSession(url)

        async def connect(self):
            await self.session.connect()

        async def close(self):
            await self.session.close()

        async def block_number(self):
            return await self.session.request("chain_getHeader")

    def node(socket):
        for text in socket:
            request = json.loads(text)
            socket.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": 7}))
            if not seen:
                seen.append(request)
                socket.close(1001)

    async def twice(client):
        return [await client.block(), await client.block()]

    seen, naps = [], []
    with serving(node) as url:
        connection = Connection("local", sleep=naps.append)
        connection._opener = lambda: OverWebsocket(url)
        try:
            started = time.monotonic()
            assert connection.read("reading the head twice", twice) == [7, 7]
        finally:
            connection.close()
    assert naps == [1.0]
    assert time.monotonic() - started < 5, "not only after a time-out"


@contextlib.contextmanager
def serving(node):
    """A websocket server on a thread of this process; gives its address."""
    with serve(node, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_node_that_is_not_there_is_a_fault():
    naps = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        Subnet(f"ws://127.0.0.1:{port}", 37, attempts=2, sleep=naps.append) as subnet,
        pytest.raises(ChainFault, match=rf"^ws://127.0.0.1:{port}: reading the head failed: RpcConnectionError"),
    ):
        subnet.head()
    assert naps == [1.0]


def test_a_node_that_says_nothing_is_a_fault_and_the_wait_is_explained(caplog):
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as stack:
        subnet = stack.enter_context(
            Subnet(f"ws://127.0.0.1:{server.getsockname()[1]}", 37, attempts=2, timeout_s=0.3, sleep=lambda _: None)
        )
        with pytest.raises(ChainFault, match=r"reading the head failed: no answer within 0.3 s, 2 attempts"):
            subnet.head()
    (told,) = caplog.messages
    assert told.endswith("reading the head: no answer within 0.3 s; asking again")


@pytest.mark.parametrize("network", ["fini", "http://example.org", "postgres://x", ""])
def test_an_unknown_network_is_refused_with_the_known_ones(network):
    with pytest.raises(ConfigError, match=r"unknown network .*finney.*local.*test.*ws://.*sqlite://"):
        Subnet(network, 37)


def test_a_missing_chain_file_is_the_users_matter_and_not_retried(tmp_path):
    naps = []
    with pytest.raises(ConfigError, match="there is no chain at"):
        Subnet(f"sqlite://{tmp_path}/none.db", 37, sleep=naps.append).head()
    assert naps == []


@pytest.mark.parametrize("options", [{"timeout_s": 0}, {"attempts": 0}, {"backoff_s": -1}, {"timeout_s": float("nan")}])
def test_settings_that_make_no_sense_are_refused(chain, options):
    with pytest.raises(ConfigError, match="timeout_s, attempts and backoff_s"):
        Subnet(chain.url, 37, **options)


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_importing_it_imports_neither_the_sdk_nor_the_devnet():
    code = "import sys, sn37.chain; print(sorted({'bittensor', 'sn37.devnet'} & set(sys.modules)))"
    assert run(code) == "[]\n"


def test_an_embedded_chain_leaves_nothing_in_the_users_home(chain, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    code = f"""
from bittensor.sp_core import Keypair
from sn37.chain import Subnet
with Subnet({chain.url!r}, 37, wallet=Keypair.create_from_uri("//Val")) as subnet:
    print(subnet.metagraph(), subnet.submissions(), subnet.commit("x"))
    print(subnet.set_weights({{subnet.hotkey: 1.0}}))
"""
    assert "weights set" in run(code, HOME=str(home))
    assert list(home.rglob("*")) == []
