"""Repos that the hub refuses, or serves badly: the miner pays for a refusal, nobody for the hub's trouble."""

import pytest
from faulty_hub import Fault
from huggingface_hub import HfApi
from small import Small

REFUSALS = [401, 403, 404, 410, 451]
FILES = r"(GET|HEAD) /{}/model/resolve/.*model\.safetensors"
REPO = r"GET /api/models/{}/model"


@pytest.fixture(scope="module")
def epoch(module_small: Small, tmp_path_factory):
    small = module_small
    small.submit("best", 0.0)
    small.submit("second", 0.5)
    for status in REFUSALS:
        for where, name in ((FILES, f"file-{status}"), (REPO, f"repo-{status}")):
            small.submit(name, 0.2)
            small.server.faults.add(Fault(where.format(name), status=status, times=10**9))
    for name in ("gone", "closed"):
        small.submit(name, 0.2)
    HfApi(endpoint=small.server.endpoint, token=small.server.token_of("closed")).update_repo_settings(
        "closed/model", private=True
    )
    small.server.storage.delete(next(repo for repo in small.server.storage.repos() if repo.namespace == "gone"))
    small.next_epoch()
    yield small.epoch(tmp_path_factory.mktemp("home"), limits={"beyond": 50})
    small.server.faults.clear()


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("what", ["file", "repo"])
def test_a_refusal_costs_its_miner_the_epoch(epoch, module_small, what, status):
    assert f"status {status}" in epoch.faults[module_small.hotkey(f"{what}-{status}")]


@pytest.mark.parametrize("name", ["gone", "closed"])
def test_a_repo_that_nobody_may_read_costs_its_miner_the_epoch(epoch, module_small, name):
    assert "does not exist, or is not public" in epoch.faults[module_small.hotkey(name)]


def test_the_others_are_decided(epoch, module_small):
    assert epoch.decision.winner == module_small.hotkey("best")
    assert set(epoch.losses) == {module_small.hotkey("best"), module_small.hotkey("second")}
