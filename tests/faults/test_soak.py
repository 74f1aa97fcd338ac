"""Many epochs under random faults beside a twin that meets none: no wrong decision, no growth, weights never late."""

import errno
import functools
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from faulty_hub import Fault

from sn37 import validator
from sn37.clock import generator
from sn37.records.epochs import Records
from sn37.validator.journal import Journal
from sn37.validator.scores import mistakes_of
from sn37.validator.service import CHECK_BLOCKS, keep_weights, run_epochs

MINERS = tuple(f"miner-{number}" for number in range(12))
KEEP = {"epochs": 3, "samples_days": 0, "notebooks_days": 0, "undecided_days": 0, "models_bytes": 2_000_000}
LATE_BLOCKS = 2 * 300
"""From when on `sn37 validator status` calls weights late."""


@dataclass
class Service:
    """One validator's service, a turn at a time."""

    small: object
    home: Path
    wallet: str

    def __post_init__(self):
        self.settings = self.small.settings(self.home, wallet=self.wallet, keep=KEEP)
        self.subnet = self.small.subnet(self.wallet, attempts=2, timeout_s=1.0)
        self.hub = self.small.hub(self.home)
        self.records, self.lines = Records(self.home / "records"), []

    def run(self, competition, sync_block):
        plan = validator.plan(replace(self.settings, competition=competition.name), self.subnet, self.hub)
        decided = validator.decide(
            validator.evaluate(validator.fetch(plan, self.subnet, self.hub), self.small.executor)
        )
        return {"chain": validator.publish(decided, self.subnet).chain}

    def epochs(self, turns):
        log, nap = Journal("epochs", self.home, self.lines.append), functools.partial(max, 0.0)
        run_epochs(self.settings, self.subnet, self.hub, self.run, log, sleep=nap, turns=turns)

    def weights(self):
        log, nap = Journal("weights", self.home, self.lines.append), functools.partial(max, 0.0)
        keep_weights(self.settings, self.subnet, log, sleep=nap, turns=1)

    def decided(self, sync_block):
        return next((epoch for epoch in self.records.sealed(7)[-1:] if epoch.sync_block == sync_block), None)

    def weights_age(self):
        me = next(one for one in self.small.chain.neurons(37) if one.hotkey == self.small.hotkey(self.wallet))
        return self.small.chain.head() - me.last_update


def hub_trouble(small, draw, monkeypatch):
    status = draw.choice((429, 500, 502, 503))
    wait = draw.choice((None, 0))
    small.server.faults.add(Fault("", status, wait, times=draw.randint(1, 12), skip=draw.randrange(10)))


def hub_cut(small, draw, monkeypatch):
    small.server.faults.add(Fault("GET .*resolve", cut_after=draw.randrange(2_000), times=draw.randint(1, 6)))


def hub_slow(small, draw, monkeypatch):
    small.server.faults.add(Fault("", delay_s=0.3, times=3, skip=draw.randrange(10)))


def data_unreachable(small, draw, monkeypatch):
    small.server.faults.add(Fault("datasets/curator", draw.choice((401, 404, 500)), times=draw.randint(1, 30)))


def chain_silent(small, draw, monkeypatch):
    small.chain.fail("silent", calls=1)


def chain_refusing(small, draw, monkeypatch):
    small.chain.fail("refusing", calls=draw.randint(1, 8))


def weights_landed_unheard(small, draw, monkeypatch):
    small.chain.fail("forgetful", calls=1)


def weights_too_soon(small, draw, monkeypatch):
    small.chain.set_rules(37, weights_rate_limit=draw.randint(100, 400))


def workers_killed(small, draw, monkeypatch):
    def kill():
        for worker in psutil.Process(small.executor._server._process.pid).children(recursive=True):
            worker.kill()

    threading.Timer(draw.random(), kill).start()


def disk_full(small, draw, monkeypatch):
    left, fsync = iter(range(draw.randrange(30), 40)), os.fsync

    def full(descriptor):
        if next(left, None) == 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr("sn37.files.os.fsync", full)


FAULTS = (
    *(hub_trouble, hub_cut, hub_slow, data_unreachable, chain_silent, chain_refusing),
    *(weights_landed_unheard, weights_too_soon, workers_killed, disk_full),
)


def change(small, draw, known):
    """What miners do before an epoch: a new model now and then, seldom a repo that is gone or hidden."""
    from huggingface_hub import HfApi

    if draw.random() < 0.6 or not known:
        name = draw.choice(MINERS)
        small.submit(name, draw.randrange(12) / 20, register=name not in known)
        known.add(name)
    if draw.random() < 0.05:
        name = draw.choice(sorted(known))
        api = HfApi(endpoint=small.server.endpoint, token=small.server.token_of(name))
        api.update_repo_settings(f"{name}/model", private=True)


def usage(home):
    """What must not grow: of this process, and of the disk beside records and the names of models."""
    process = psutil.Process()
    files = [path for path in home.rglob("*") if path.is_file()]
    beside = [path for path in files if not {"records", "names", "locks"} & {*path.relative_to(home).parts}]
    samples = [path for path in files if path.parent.name == "samples"]
    return {
        "resident_mb": process.memory_info().rss / 1e6,
        "open_files": process.num_fds(),
        "sockets": len(process.net_connections("all")),
        "threads": process.num_threads(),
        "files_beside_records": len(beside),
        "files_of_samples": len(samples),
    }


@pytest.mark.parametrize("epochs", [5, pytest.param(200, marks=pytest.mark.soak)])
def test_faults_change_no_decision_and_nothing_grows(small, tmp_path, monkeypatch, epochs):
    small.register("twin", stake=500_000.0, permit=True)
    struck = Service(small, tmp_path / "struck", "validator")
    twin = Service(small, tmp_path / "twin", "twin")
    draw, known, met, abstained, oldest, early = generator(0, "soak"), set(), [], 0, 0, {}
    for place in range(epochs):
        change(small, draw, known)
        sync_block = small.next_epoch()
        with monkeypatch.context() as patch:
            for fault in draw.sample(FAULTS, draw.randint(0, 3)):
                fault(small, draw, patch)
                met.append(fault.__name__)
            struck.epochs(turns=3)
            for _ in range(360 // CHECK_BLOCKS - 1):
                struck.weights()
                if struck.decided(sync_block) or struck.records.sealed(7):
                    oldest = max(oldest, struck.weights_age())
                small.chain.advance(CHECK_BLOCKS)
        small.server.faults.clear()
        small.chain.recover()
        small.chain.set_rules(37, weights_rate_limit=100)
        if draw.random() < 0.9:
            struck.epochs(turns=3)
        twin.epochs(turns=2)
        mine, theirs = struck.decided(sync_block), twin.decided(sync_block)
        assert theirs is not None, twin.lines[-3:]
        if mine is None or mine.decision.set_aside:
            abstained += 1
            continue
        assert mine.decision.winner == theirs.decision.winner, (sync_block, met[-3:], struck.lines[-5:])
        assert mistakes_of(mine) == []
        for hotkey in {*mine.results} & {*theirs.results}:
            a, b = mine.results[hotkey], theirs.results[hotkey]
            assert a.is_of(b) and a.fault == b.fault
            assert {name: task.values for name, task in a.tasks.items()} == {
                name: task.values for name, task in b.tasks.items()
            }
        if place == epochs // 4:
            early = usage(struck.home)
    late = usage(struck.home)
    print(f"{epochs} epochs, {len(met)} faults of {len({*met})} kinds, {abstained} epochs abstained")
    print(f"weights at most {oldest} blocks old; then {early}, now {late}")
    assert abstained <= epochs * 0.3
    assert oldest <= LATE_BLOCKS
    if early:
        assert late["resident_mb"] < early["resident_mb"] + 100
        for name in ("open_files", "sockets", "threads", "files_beside_records", "files_of_samples"):
            assert late[name] <= early[name] + 8, (name, early, late)
