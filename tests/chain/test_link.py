"""Time-outs, bounded retries with back-off, lost answers; which chain a name stands for."""

import contextlib
import socket
import subprocess
import sys
import threading

import pytest

from sn37.chain import Subnet, WeightsResult
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
    chain.fail("refusing", calls=5)
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
