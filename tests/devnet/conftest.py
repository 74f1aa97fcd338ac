"""What the devnet tests share."""

import bittensor as bt
import pytest
from words import tokenizer
from worlds import built

from sn37.devnet.chain import Chain
from sn37.devnet.chain.substrate import embedded

__all__ = ["built", "tokenizer"]


@pytest.fixture
def sdk(tmp_path, monkeypatch):
    """Opens the SDK's blocking client over a chain; closed with all its threads after the test."""
    monkeypatch.setenv("BTCLI_TOKEN_SYMBOLS_CACHE", str(tmp_path / "symbols.json"))
    opened = []

    def client(chain):
        mine = Chain.open(chain.store.path, chain.wall_clock)  # a client closes what it was given
        opened.append(bt.Subtensor("local", substrate=embedded(mine)))
        return opened[-1].connect()

    yield client
    for each in opened:
        thread = each._loop_thread
        each.close()
        thread._loop.close()  # the SDK stops its loop, but leaves it open
