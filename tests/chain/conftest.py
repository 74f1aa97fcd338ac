"""A small subnet on an embedded chain, and keys for it."""

import pytest
from bittensor.sp_core import Keypair
from faulty_chain import FaultyChain

from sn37.chain import Subnet


def key(name):
    """A key that depends on nothing but its name."""
    return Keypair.create_from_uri(f"//{name}")


@pytest.fixture
def keys():
    """name -> key."""
    return key


@pytest.fixture
def chain(tmp_path):
    """Subnet 37 with two validators (uids 0, 1) and three miners (uids 2, 3, 4)."""
    made = FaultyChain.create(tmp_path / "chain.db", netuids=(37, 1, 18))
    for name, stake in (("Val", 150_000.0), ("Vic", 120_000.0), ("Ann", 0.0), ("Ben", 0.0), ("Cat", 0.0)):
        made.register(37, key(name).ss58_address, stake=stake, permit=stake > 0)
    yield made
    made.close()


@pytest.fixture
def subnet(chain):
    """Opens the subnet as somebody; `naps` collects the pauses between attempts."""
    opened = []

    def as_(name=None, naps=None, **options):
        wallet = key(name) if name else None
        pause = (lambda seconds: None) if naps is None else naps.append
        opened.append(Subnet(chain.url, 37, wallet=wallet, sleep=pause, **options))
        return opened[-1]

    yield as_
    for each in opened:
        each.close()
