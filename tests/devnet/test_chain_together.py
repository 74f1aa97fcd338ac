"""Many processes on one embedded chain, and processes that die in the middle of it."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from bittensor.sp_core import Keypair

from sn37.chain import Subnet
from sn37.devnet.chain import Chain

WORKER = """
import sys, threading
from bittensor.sp_core import Keypair
from sn37.chain import Subnet

url, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def commit(numbers):
    for number in numbers:
        with Subnet(url, 37, wallet=Keypair.create_from_uri(f"//m{number}")) as subnet:
            subnet.commit(f"text of {number}")

numbers = range(first, first + count)
threads = [threading.Thread(target=commit, args=(numbers[part::2],)) for part in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""

ENDLESS = """
import sys
from bittensor.sp_core import Keypair
from sn37.devnet.chain import Chain
from sn37.chain import Subnet

chain = Chain.open(sys.argv[1])
subnet = Subnet(chain.url, 37, wallet=Keypair.create_from_uri("//m0"))
while True:
    print(subnet.commit("again"), flush=True)
    chain.advance(3)
"""


@pytest.fixture
def chain(tmp_path):
    made = Chain.create(tmp_path / "chain.db")
    yield made
    made.close()


def test_of_120_commitments_from_several_processes_and_threads_none_is_lost(chain):
    for number in range(120):
        chain.register(37, Keypair.create_from_uri(f"//m{number}").ss58_address)
    before = chain.head()
    workers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", WORKER, chain.url, str(part * 40), "40"])
        for part in range(3)
    ]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    with Subnet(chain.url, 37) as subnet:
        found = subnet.submissions()
    assert [s.text for s in found] == [f"text of {number}" for number in range(120)]
    assert sorted(s.block for s in found) == list(range(before + 1, before + 121))  # a block each
    assert chain.head() == before + 120


@pytest.mark.parametrize("patience", range(3))
def test_a_process_killed_while_it_writes_leaves_a_sound_chain(chain, patience):
    chain.set_rules(37, commitment_rate_limit=0, commitment_bytes=10**9)
    chain.register(37, Keypair.create_from_uri("//m0").ss58_address)
    worker = subprocess.Popen([sys.executable, "-c", ENDLESS, str(chain.store.path)], stdout=subprocess.PIPE, text=True)
    told = [int(worker.stdout.readline()) for _ in range(5)]
    time.sleep(0.01 * patience)
    os.kill(worker.pid, signal.SIGKILL)
    told += [int(line) for line in worker.stdout.read().splitlines() if line.strip().isdigit()]
    worker.stdout.close()
    worker.wait()
    with closing(sqlite3.connect(chain.store.path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        blocks = [row[0] for row in database.execute("SELECT block FROM commitments ORDER BY block")]
        calls = [row[0] for row in database.execute("SELECT block FROM extrinsics ORDER BY block")]
        numbers = [row[0] for row in database.execute("SELECT number FROM blocks ORDER BY number")]
    assert blocks == calls  # a call and what it did: both or neither
    assert set(told) <= set(blocks)  # what was confirmed stays
    assert numbers == list(range(numbers[0], chain.head() + 1))
    assert max(blocks) <= chain.head()
    with Subnet(chain.url, 37, wallet=Keypair.create_from_uri("//m0")) as subnet:
        assert subnet.commit("after the crash") == chain.head()
