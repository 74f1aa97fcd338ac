"""A recorded epoch evaluated again gives the same samples, values and decision, on records of its own."""

import json
import shutil
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from sn37 import validator
from sn37.analysis.comparison import compare
from sn37.cli import app
from sn37.errors import ConfigError
from sn37.files import shipped
from sn37.notebook import run_notebook
from sn37.records.decision import Publication
from sn37.records.epochs import Epoch
from sn37.submission import file_digest


@pytest.fixture(scope="module")
def played(module_small, tmp_path_factory):
    """An epoch of two models and one that is at fault."""
    small = module_small
    small.submit("best", 0.0)
    small.submit("second", 0.5)
    small.submit("broken", {"config.json": b"{}"})
    small.next_epoch()
    return small, small.epoch(tmp_path_factory.mktemp("home")).decided.epoch


@pytest.mark.parametrize("redraw", [True, False])
def test_a_replay_equals_the_record(played, tmp_path, redraw):
    small, epoch = played
    again = validator.replay(epoch, tmp_path, redraw=redraw, more={"device": "cpu"}, executor=small.executor)
    found = compare(epoch, again)
    assert found.equal, str(found)
    assert found.compared == 2 * (4 + 2)
    assert again.folder != epoch.folder and again.read(Publication) is None
    assert again.decision == epoch.decision


def test_a_replay_goes_on_where_it_was_stopped(played, tmp_path):
    small, epoch = played
    again = validator.replay(epoch, tmp_path, executor=small.executor)
    work = again.folder.rename(again.folder.with_name(f"{again.folder.name}.work"))
    (work / "decision.json").unlink()
    kept = sorted(path.stat().st_mtime_ns for path in (work / "results").iterdir())
    again = validator.replay(epoch, tmp_path, executor=small.executor)
    assert sorted(path.stat().st_mtime_ns for path in (again.folder / "results").iterdir()) == kept
    assert compare(epoch, again).equal


def test_code_that_a_record_names_runs_only_where_it_is_trusted(played, tmp_path):
    _, epoch = played
    copy = Epoch(shutil.copytree(epoch.folder, tmp_path / "7" / epoch.folder.name))
    code = tmp_path / "own.py"
    code.write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    copy.write(replace(copy.manifest, own_tasks={str(code): file_digest(code)}))
    copy = Epoch(copy.folder)
    with pytest.raises(ConfigError, match=r"own\.py, which is code; .*-p 'tasks="):
        validator.replay(copy, tmp_path / "out")
    with pytest.raises(ConfigError, match="is not what the epoch ran with"):
        code.write_text("changed = True\n")
        validator.replay(copy, tmp_path / "out", more={"tasks": [str(code)]})
    assert not (tmp_path / "ran").exists()


def test_an_epoch_is_not_replayed_over_itself(played):
    _, epoch = played
    with pytest.raises(ConfigError, match="holds the epoch itself"):
        validator.replay(epoch, epoch.folder.parents[2])


@pytest.mark.slow
def test_the_notebook_evaluates_an_epoch_again_and_draws_what_differs(played, tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND")
    _, epoch = played
    given = {"records": str(epoch.folder.parents[1]), "out": str(tmp_path / "out"), "more": {"device": "cpu"}}
    run = run_notebook(shipped("notebooks", "replay_epoch.ipynb"), given, tmp_path, "replay")
    assert run.result["equal"] and "12 values compared" in run.result["summary"]
    assert run.report.read_text().count("data:image/png;base64,") == 1


def test_the_command_tells_what_is_equal_and_what_is_not(played, tmp_path):
    _, epoch = played
    run = CliRunner()
    done = run.invoke(app, ["replay", str(epoch.folder), "--out", str(tmp_path / "out"), "-p", "device=cpu"])
    assert done.exit_code == 0 and "equal to the last digit" in done.output
    again = next((tmp_path / "out").glob("*/records/7/*/"))
    result = next(path for path in (again / "results").iterdir() if json.loads(path.read_text())["measurement"])
    data = json.loads(result.read_text())
    data["measurement"]["tasks"]["WORDS"]["values"][0] += 1.0
    result.write_text(json.dumps(data))
    done = run.invoke(app, ["compare", str(epoch.folder), str(again)])
    assert done.exit_code == 1 and "WORDS: 1 of 2 values" in done.output
    (again / "results" / f"{Epoch(epoch.folder).decision.winner}.json").unlink()
    done = run.invoke(app, ["records", str(again), "--verify"])
    assert done.exit_code == 1 and "the decision is not the one that the results make" in done.output
    done = run.invoke(app, ["records", str(epoch.folder.parents[2]), "--verify"])
    assert done.exit_code == 0 and "1 epoch," in done.output and "0 mistakes" in done.output
    with pytest.raises(ConfigError, match="no decided epoch"):
        run.invoke(app, ["records", str(tmp_path)], catch_exceptions=False)


def test_a_model_that_is_gone_is_told(played, tmp_path):
    small, epoch = played
    winner = epoch.decision.winner
    owner = next(score for score in epoch.decision.scores if score.hotkey == winner)
    from huggingface_hub import HfApi

    HfApi(endpoint=small.server.endpoint, token=small.server.token_of("best")).delete_repo("best/model")
    again = validator.replay(epoch, tmp_path, executor=small.executor)
    assert again.results[winner].fault is not None
    found = compare(epoch, again)
    assert f"model: uid {owner.uid}" in str(found) and "could not have" in found.reasons[0]
