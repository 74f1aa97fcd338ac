"""What sources are given in these tests: the real readers, over embedded servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bittensor_core import Keypair
from faulty_hub import FaultyHub
from public_datasets import all_datasets
from signed_runs import cortex_run, prompting_run
from wandb_server import API_KEY, ServedRun, WandbServer

from sn37.chain import verify
from sn37.clock import generator
from sn37.data import PinnedDatasets, WandbRuns
from sn37.devnet.datasets import Dataset
from sn37.hub import Hub
from sn37.sources import Context

AS_OF = datetime(2026, 1, 10, tzinfo=UTC)
KEYS = {name: Keypair.create_from_uri(f"//{name}") for name in ("trusted", "second", "poor", "nobody")}
HOTKEYS = {name: str(key.ss58_address) for name, key in KEYS.items()}


def trusted(netuid: int, min_stake: float) -> frozenset[str]:
    """Two validators with stake enough, one with less; on subnets 1 and 18 only."""
    names = ("trusted", "second") if min_stake > 0 else ("trusted", "second", "poor")
    return frozenset(HOTKEYS[name] for name in names) if netuid in (1, 18) else frozenset()


def context(seed: int = 7, *, datasets: Any = None, runs: Any = None, as_of: datetime = AS_OF) -> Context:
    """A context as the validator composes it. seed: of the epoch."""
    return Context(generator(seed, "TASK"), as_of, datasets, runs, trusted, verify)


@pytest.fixture
def make_context() -> Callable[..., Context]:
    return context


@pytest.fixture(scope="module")
def wandb_server() -> Iterator[WandbServer]:
    """Honest runs by two validators on each subnet, and runs that must not count."""
    runs = []
    for make in (prompting_run, cortex_run):
        key = "HOTKEY_SS58" if make is prompting_run else "hotkey"
        signature = "SIGNATURE" if make is prompting_run else "signature"
        name = make.__name__.removesuffix("_run")
        runs += [
            make(KEYS["trusted"], f"{name}-first", AS_OF),
            make(KEYS["second"], f"{name}-second", AS_OF),
            make(KEYS["poor"], f"{name}-poor", AS_OF),
            make(KEYS["nobody"], f"{name}-nobody", AS_OF),
            make(KEYS["nobody"], f"{name}-forged", AS_OF, claims={key: HOTKEYS["trusted"]}),
            make(KEYS["trusted"], f"{name}-unsigned", AS_OF, claims={signature: None}),
            make(KEYS["trusted"], f"{name}-garbage", AS_OF, claims={signature: "0xnot hex"}),
            old(make(KEYS["trusted"], f"{name}-old", AS_OF - timedelta(days=5))),
        ]
    with WandbServer(runs) as server:
        yield server


def old(run: ServedRun) -> ServedRun:
    return replace(run, heartbeat_at=run.heartbeat_at - timedelta(hours=1))


@pytest.fixture
def read_runs(wandb_server: WandbServer) -> WandbRuns:
    return WandbRuns(wandb_server.base_url, API_KEY, timeout_s=20, pause_s=0.05)


class Time:
    """The hub's clock; it stands a day before the sync block until it is moved."""

    def __init__(self) -> None:
        self.now = AS_OF - timedelta(days=1)

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Datasets:
    """An embedded hub with the public datasets, and readers of it."""

    server: FaultyHub
    time: Time
    folder: Path

    def upload(self, dataset: Dataset, *, private: bool = False) -> None:
        """Publish a dataset as its owner would, in one commit."""
        token = self.server.token_of(dataset.repo.split("/")[0])
        dataset.publish(self.server.endpoint, token, private=private)

    def reader(self, as_of: datetime = AS_OF) -> PinnedDatasets:
        """A reader that has read nothing before."""
        folder = self.new_folder()
        hub = Hub(self.server.endpoint, cache=folder / "models", first_wait_s=0.0, timeout_s=10)
        return PinnedDatasets(hub, as_of, folder / "rows")

    def new_folder(self) -> Path:
        path = self.folder / f"{len(list(self.folder.iterdir())):04d}"
        path.mkdir()
        return path


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Datasets]:
    time = Time()
    validators = [HOTKEYS["trusted"], HOTKEYS["second"]]
    with FaultyHub(tmp_path_factory.mktemp("hub"), clock=time) as server:
        hub = Datasets(server, time, tmp_path_factory.mktemp("datasets"))
        for dataset in all_datasets(validators, AS_OF, [HOTKEYS["poor"], HOTKEYS["nobody"]]):
            hub.upload(dataset)
        yield hub


@pytest.fixture
def hotkeys() -> dict[str, str]:
    return HOTKEYS
