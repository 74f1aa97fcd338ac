"""The validator's notebook: its paths, and what it does for a person who only looks."""

import os

import pytest
from jupyter_client.manager import start_new_kernel

from sn37.files import shipped
from sn37.notebook import run_notebook
from sn37.validator.settings import PARAMETERS

BOOK = shipped("notebooks", "validator_epoch.ipynb")
ROOT = "from sn37 import validator; print(validator.Settings.of(root='records').root)"


def printed(code: str, **options: object) -> str:
    """What a kernel prints that is started as a notebook server starts one."""
    manager, client = start_new_kernel(kernel_name="python3", **options)
    said: list[str] = []
    try:
        hook = lambda message: said.append(message["content"].get("text", ""))  # noqa: E731
        client.execute_interactive(code, timeout=60, output_hook=hook)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return "".join(said).strip()


@pytest.mark.parametrize("below", ["notebooks", "notebooks/mine", "."])
def test_a_relative_path_means_the_folder_the_server_was_started_from(tmp_path, below):
    folder = tmp_path / below
    folder.mkdir(parents=True, exist_ok=True)
    assert printed(ROOT, cwd=str(folder), env={**os.environ, "PWD": str(tmp_path)}) == str(tmp_path / "records")


def test_a_relative_path_never_means_a_folder_elsewhere(tmp_path):
    for stale in ("/", str(tmp_path / "other"), ""):
        found = printed(ROOT, cwd=str(tmp_path), env={**os.environ, "PWD": stale})
        assert found == str(tmp_path / "records")


def test_without_a_wallet_an_old_epoch_can_be_looked_at_and_nothing_is_published(module_small, tmp_path, monkeypatch):
    small = module_small
    small.submit("early", 0.5)
    wanted = small.next_epoch()
    small.next_epoch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", "/elsewhere")
    given = {**small.parameters(tmp_path), "root": "records", "publish": False, "sync_block": wanted}
    del given["wallet"], given["hotkey"], given["wallet_path"]
    parameters = {name: value for name, value in given.items() if name in PARAMETERS}
    more = {name: value for name, value in given.items() if name not in PARAMETERS}
    before = small.chain.head()
    run = run_notebook(BOOK, {**parameters, "more": more}, tmp_path / "out", "looked")
    assert run.result["sync_block"] == wanted and run.result["winner"] == small.hotkey("early")
    assert run.result["chain"] == run.result["mirror"] == "not published: publish is off"
    assert run.result["record"].startswith(str(tmp_path / "records"))
    assert small.chain.head() - before == 0, "no extrinsic, no block"


def test_the_best_trained_honest_miner_wins_and_every_cheat_has_its_reason(world, world_records):
    epoch = world_records.sealed(world_records.competitions()[0])[0]
    decision = epoch.decision
    by_role = {miner.role: miner for miner in world.miners}
    honest = sorted((miner for miner in world.miners if miner.role == "honest"), key=lambda miner: miner.steps)
    assert decision.winner == honest[-1].hotkey
    scores = {score.hotkey: score for score in decision.scores}
    losses = [scores[miner.hotkey].score for miner in honest]
    assert losses == sorted(losses, reverse=True), "longer training, lower loss"
    assert by_role["copy"].hotkey not in [turn.hotkey for turn in decision.reign if turn.succeeds]
    assert "safetensors" in scores[by_role["pickle"].hotkey].fault.reason
    assert "hash" in scores[by_role["mismatch"].hotkey].fault.reason
    late = next(p for p in epoch.manifest.submissions if p.submission.hotkey == by_role["late"].hotkey)
    assert not late.evaluate and "too late" in late.why


def test_the_record_holds_the_executed_notebook_and_its_report(world_records):
    for epoch in world_records.sealed(world_records.competitions()[0]):
        names = {path.name for path in epoch.folder.iterdir()}
        assert {"manifest.json", "decision.json", "published.json", "epoch.ipynb", "report.html"} <= names
        assert "https://" not in (epoch.folder / "report.html").read_text()
