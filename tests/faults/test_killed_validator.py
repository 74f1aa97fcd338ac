"""The main job for real, with one validator killed in the middle: nothing is lost, and both agree."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sn37.devnet.running import open_world, running
from sn37.records.decision import Publication
from sn37.records.epochs import Epoch, Records

PATIENCE_S = 240


@pytest.fixture(scope="module")
def world(built, tmp_path_factory):
    root = shutil.copytree(built, tmp_path_factory.mktemp("world") / "world")
    with running(open_world(root)) as world:
        yield world


def start(pipeline: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sn37", "run", str(pipeline)]
    with (pipeline.parent / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=pipeline.parent, stdout=log, stderr=log, start_new_session=True)


def finish(pipeline: Path) -> None:
    process = start(pipeline)
    try:
        code = process.wait(PATIENCE_S)
    finally:
        process.kill()
    assert code == 0, (pipeline.parent / "log.txt").read_text()


def wait_for(condition, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, "the validator ended before it could be killed"
        assert time.monotonic() < deadline, "the validator did nothing"
        time.sleep(0.02)


def records(home: Path) -> Records:
    return Records(home / "validator" / "records")


def descendants(of: int) -> set[int]:
    import psutil

    return {child.pid for child in psutil.Process(of).children(recursive=True)}


@pytest.fixture(scope="module")
def epochs(world, tmp_path_factory) -> tuple[Epoch, Epoch]:
    """One epoch by validator-1, undisturbed, and by validator-2, killed after its first result."""
    homes = [tmp_path_factory.mktemp(validator.name) for validator in world.validators]
    pipelines = [world.write_pipeline(v, home) for v, home in zip(world.validators, homes, strict=True)]
    sync_block = world.next_epoch()
    finish(pipelines[0])

    process = start(pipelines[1])
    work = records(homes[1]).root / str(world.competition.id) / f"{sync_block}.work" / "results"
    wait_for(lambda: any(path.suffix == ".json" for path in work.glob("*")), process)
    family = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path.name: path.stat().st_mtime_ns for path in work.glob("*.json")}
    assert records(homes[1]).sealed(world.competition.id) == [], "it was killed in the middle"

    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family if Path(f"/proc/{pid}").exists()):
        assert time.monotonic() < deadline, "a kernel or a worker outlived its validator"
        time.sleep(0.1)

    finish(pipelines[1])
    first, second = (records(home).epoch(world.competition.id, sync_block) for home in homes)
    for name, written in finished.items():
        assert (second.folder / "results" / name).stat().st_mtime_ns == written, "what was finished is not done twice"
    return first, second


def test_both_validators_drew_the_same_samples(epochs, world):
    first, second = epochs
    for task in world.competition.tasks:
        assert first.samples(task.name) == second.samples(task.name)
        assert len(first.samples(task.name)) > 0
    assert first.manifest.data == second.manifest.data
    assert first.manifest.seed == second.manifest.seed


def test_both_validators_measured_the_same_numbers(epochs):
    first, second = epochs
    assert first.decision == second.decision
    for hotkey, result in first.results.items():
        for name, task in result.tasks.items():
            other = second.results[hotkey].tasks[name]
            assert task.values == other.values
            assert task.score == other.score


def test_the_killed_validator_set_the_same_weights(epochs, world):
    first, second = epochs
    assert first.read(Publication).weights == second.read(Publication).weights
    with world.subnet() as subnet:
        weights = subnet.validator_weights()
    rows = [weights[validator.hotkey] for validator in world.validators]
    assert rows[0] == rows[1] == first.read(Publication).weights


def test_the_best_trained_honest_miner_wins_and_every_cheat_has_its_reason(epochs, world):
    decision = epochs[0].decision
    by_role = {miner.role: miner for miner in world.miners}
    honest = sorted((m for m in world.miners if m.role == "honest"), key=lambda m: m.steps)
    assert decision.winner == honest[-1].hotkey
    scores = {score.hotkey: score for score in decision.scores}
    losses = [scores[miner.hotkey].score for miner in honest]
    assert losses == sorted(losses, reverse=True), "longer training, lower loss"
    assert by_role["copy"].hotkey not in [turn.hotkey for turn in decision.reign if turn.succeeds]
    assert "safetensors" in scores[by_role["pickle"].hotkey].fault.reason
    assert "hash" in scores[by_role["mismatch"].hotkey].fault.reason
    late = next(p for p in epochs[0].manifest.submissions if p.submission.hotkey == by_role["late"].hotkey)
    assert not late.evaluate
    assert "too late" in late.why


def test_the_record_holds_the_executed_notebook_and_its_report(epochs):
    for epoch in epochs:
        names = {path.name for path in epoch.folder.iterdir()}
        assert {"manifest.json", "decision.json", "published.json", "epoch.ipynb", "report.html"} <= names
        assert "https://" not in (epoch.folder / "report.html").read_text()
