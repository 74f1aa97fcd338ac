"""A miner's surroundings: an embedded chain and hub, a tokenizer and a model made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from faulty_hub import FaultyHub
from tiny_models import build_model
from words import tokenizer

from sn37.chain import Subnet
from sn37.competition import Competition, Constraints, EvalTask, Fixed
from sn37.devnet.chain import Chain
from sn37.devnet.tiny_llama import save, small_llama
from sn37.hub import Hub

__all__ = ["build_model", "tokenizer"]

NETUID = 37
NAMESPACE = "alice"


def competition_of(**changes: Any) -> Competition:
    constraints = Constraints(
        architectures=("LlamaForCausalLM",),
        max_parameters=100_000,
        max_bytes=1_000_000,
        sequence_length=64,
        tokenizer=None,
        delay_blocks=0,
        dtype="float32",
    )
    task = EvalTask("SORTING", "word_sorting", "reference_loss", 1.0)
    return Competition(7, "TINY", replace(constraints, **changes), Fixed(0.01), (task,))


@pytest.fixture(scope="session")
def competition() -> Competition:
    return competition_of()


@pytest.fixture
def model(tmp_path: Path, tokenizer: Any) -> Path:
    """A folder that passes every check."""
    return save(small_llama(tokenizer, hidden=16, layers=1), tokenizer, tmp_path / "model")


@dataclass
class Surroundings:
    """The outside world of one miner. tokens: user -> token."""

    chain: Chain
    server: FaultyHub
    subnet: Subnet
    cache: Path

    def hub(self, user: str | None = NAMESPACE) -> Hub:
        token = None if user is None else self.server.token_of(user)
        return Hub(self.server.endpoint, token, cache=self.cache, attempts=2, first_wait_s=0.0, timeout_s=10)


@pytest.fixture
def outside(tmp_path: Path, wallet: Callable[[str], Any]) -> Iterator[Surroundings]:
    chain = Chain.create(tmp_path / "chain.sqlite", netuids=(NETUID, 9))
    miner = wallet("miner")
    chain.register(NETUID, miner.hotkey.ss58_address)
    subnet = Subnet(chain.url, NETUID, wallet=miner, attempts=1)
    with FaultyHub(tmp_path / "hub", clock=chain.now) as server, subnet:
        yield Surroundings(chain, server, subnet, tmp_path / "cache")
    chain.close()


@pytest.fixture
def wallet(tmp_path: Path) -> Callable[[str], Any]:
    from bittensor import Wallet

    def make(name: str) -> Any:
        wallet = Wallet(name, "default", str(tmp_path / "wallets"))
        wallet.create_new_coldkey(use_password=False, suppress=True)
        wallet.create_new_hotkey(use_password=False, suppress=True)
        return wallet

    return make
