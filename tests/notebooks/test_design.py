"""The notebook of a task's designer: from a source in a cell to a competition file that others can check."""

import subprocess
import sys

import pytest
from executed import complaints

import sn37
from sn37.competition import Competition
from sn37.competitions import code_of, public
from sn37.errors import ConfigError
from sn37.files import shipped
from sn37.notebook import parameters_of, run_notebook
from sn37.sources import SOURCES

BOOK = shipped("notebooks", "design_eval_task.ipynb")


@pytest.mark.parametrize("kind", ["no model", "models of a devnet"])
def test_it_ends_in_a_judgement_and_a_competition_that_others_can_check(kind, built, tmp_path, monkeypatch):
    for name in ("MPLBACKEND", "TOKENIZERS_PARALLELISM"):
        monkeypatch.delenv(name)  # as in a person's own shell, where warnings would show
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    places = sorted((built / "models").iterdir(), key=lambda folder: int(folder.name.partition("-")[0]))
    models = {} if kind == "no model" else {folder.name: str(folder) for folder in places}
    run = run_notebook(BOOK, {"models": models, "device": "cpu"}, tmp_path / "runs", "design")
    assert run.result["verdict"] in ({"open"} if not models else {"not fit", "fit with care", "fit"})
    assert run.result["summary"].startswith("FIRST_WORD ") and complaints(run.notebook) == []
    page = run.report.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 5 and all(name in page for name in models)
    command = ["competitions", "check", "design/competition.toml", "--tasks", "design/tasks.py"]
    checked = subprocess.run([sys.executable, "-m", "sn37", *command], capture_output=True, text=True)
    assert checked.returncode == 0 and "is right: competition 98 FIRST_WORD_TRIAL" in checked.stdout, checked.stderr


@pytest.mark.parametrize("path", sorted(shipped("notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_parameter_of_a_notebook_says_what_it_means(path):
    assert [name for name, found in parameters_of(path).items() if not found.comment] == []


def test_code_that_stands_in_no_cell_is_told():
    space = {"sn37": sn37, "__name__": "__main__"}
    exec("@sn37.source('nowhere')\ndef nowhere(rng):\n    yield sn37.TextSample('a')\n", space)
    try:
        task = sn37.task("NOWHERE", source="nowhere", method="text_loss")
        start = public("SN9_MODEL")
        with pytest.raises(ConfigError, match="is not defined in a notebook's cell; write it into a Python file"):
            code_of(Competition(9, "TRIAL", start.constraints, start.epsilon, (task,)))
    finally:
        SOURCES._factories.pop("nowhere")
    assert code_of(public("INSTRUCT_8B")) == "", "all of it is in the package"
