"""The notebooks that look at records run from start to end, and their reports show their figures."""

import re
import shutil
from pathlib import Path

import pytest
from executed import complaints
from simulated import COMPETITION, START, simulate
from small import save_model
from typer.testing import CliRunner

from sn37 import open_records
from sn37.analysis import frames
from sn37.checks.tokenizer import byte_tokenizer
from sn37.cli import app
from sn37.errors import ConfigError
from sn37.files import shipped
from sn37.notebook import run_notebook
from sn37.validator.mirror import log_epochs
from sn37.validator.plan import Plan
from sn37.validator.settings import Settings

FIGURES = {"competition_report": 9, "explore_epoch": 2, "replay_epoch": 1, "why_did_i_lose": 2}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    root = tmp_path_factory.mktemp("records")
    return {name: str(simulate(root / name, epochs=5, models=5, seed=seed).root) for seed, name in enumerate("ab")}


def logged(records, root):
    """The folder of wandb runs that hold a validator's records."""
    shutil.copytree(records, root / "records")
    manifest = open_records(records).epoch().manifest
    log_epochs(Plan(Settings(root=root), manifest, newest=True), next(iter(manifest.uids)))
    return str(root / "wandb")


@pytest.mark.parametrize("name", FIGURES)
def test_a_notebook_runs_and_its_report_stands_alone(name, records, tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND")  # as in a person's own shell: figures go into the page
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {"records": records["a"]}
    if name == "competition_report":  # another validator's as it publishes them
        given["records"] = {"a": records["a"], "b": logged(records["b"], tmp_path / "b")}
    if name == "replay_epoch":
        given["other"] = records["b"]
    if name == "why_did_i_lose":
        given["uid"] = 3
    run = run_notebook(shipped("notebooks", f"{name}.ipynb"), given, tmp_path, name)
    page = run.report.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == FIGURES[name]
    assert not re.search(r"(src|href)=[\"']https?://", page)
    assert complaints(run.notebook) == [] and run.result["summary"]


@pytest.mark.parametrize("name", ["competition_report", "explore_epoch"])
def test_a_notebook_reads_what_a_validator_left_on_a_devnet(name, world_records, tmp_path):
    run = run_notebook(shipped("notebooks", f"{name}.ipynb"), {"records": str(world_records.root)}, tmp_path, name)
    assert complaints(run.notebook) == [] and run.result["summary"]


def test_no_notebook_is_without_a_test():
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [path.stem for path in shipped("notebooks").glob("*.ipynb") if path.stem not in tests] == []


def test_what_a_model_wrote_is_text_in_a_report(records, tmp_path):
    root = shutil.copytree(records["a"], tmp_path / "records")
    for path in root.glob("*/*/results/*.json"):
        path.write_text(path.read_text().replace("It is", "<b onclick=x>It is</b>"))
    given = {"records": str(root), "task": "QUESTIONS"}
    run = run_notebook(shipped("notebooks", "explore_epoch.ipynb"), given, tmp_path, "hostile")
    page = run.report.read_text(encoding="utf-8")
    assert "&lt;b onclick=x&gt;It is" in page and "<b onclick" not in page
    assert "default-src 'none'" in page, "nor could it do anything"


def test_an_epoch_shows_what_each_token_of_a_text_costs_a_model(records, tmp_path):
    folder = save_model(tmp_path / "model", 1.0, hidden_size=256, intermediate_size=512)
    byte_tokenizer().save_pretrained(folder)
    given = {"records": records["a"], "model": str(folder), "task": "WORDS"}
    run = run_notebook(shipped("notebooks", "explore_epoch.ipynb"), given, tmp_path, "tokens")
    page = run.report.read_text(encoding="utf-8")
    assert "5 tokens, " in page and page.count(' nats"') == 5 + 5
    assert complaints(run.notebook) == []


def said(*arguments):
    result = CliRunner().invoke(app, ["notebook", *map(str, arguments)])
    if isinstance(result.exception, Exception):
        raise result.exception
    return result.output


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_a_notebook_lists_its_parameters_with_kind_default_and_meaning(flag, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    told = [" ".join(line.split()) for line in said("competition_report", flag).splitlines()]
    assert "last a whole number 50 how many of the newest epochs" in told
    assert "result_file" not in " ".join(told)


@pytest.mark.parametrize("flags", [(), ("--help",)])
def test_without_a_name_the_command_explains_itself(flags):
    assert "A shipped notebook, such as" in said(*flags)


def test_a_notebook_is_run_with_parameters_under_a_name_that_says_what_it_is(records, tmp_path):
    told = said("explore_epoch", "-p", f"records={records['a']}", "-p", f"sync_block={START}", "--out", tmp_path)
    assert f"epoch {START} of competition {COMPETITION.id}" in told
    (report,) = tmp_path.glob("*.html")
    assert report.name == f"explore_epoch_sync_block-{START}.html"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("competition_reprot",), "no file 'competition_reprot.ipynb' among the notebooks of sn37; expected one of"),
        (("explore_epoch", "-p", "lsat=3"), "lsat"),
        (("explore_epoch", "-p", "most=many"), "parameter most is 'many'; expected a whole number, such as 10"),
        (("explore_epoch", "-p", "most"), "expected NAME=VALUE"),
        (("explore_epoch", "-p", "most=true"), "parameter most is True; expected a whole number, such as 10"),
        (("explore_epoch", "-p", "records=7"), "parameter records is 7; expected text, such as"),
    ],
)
def test_a_wrong_name_or_value_is_one_sentence(given, told, tmp_path):
    with pytest.raises(ConfigError, match=re.escape(told)):
        said(*given, "--out", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_intervals_hold_the_scores(records):
    frame = frames.with_intervals(open_records(records["a"]).epoch()).dropna(subset="score")
    assert ((frame["low"] <= frame["score"]) & (frame["score"] <= frame["high"])).all()
    assert (frame["high"] - frame["low"] > 0.01).all()
