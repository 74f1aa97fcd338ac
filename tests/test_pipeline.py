"""Pipelines: papermill's traps are closed, errors keep their type, success is the result file."""

import re
from pathlib import Path

import nbformat
import pytest

from sn37.errors import ChainFault, ConfigError, DataFault, EvaluatorFault
from sn37.pipeline import read_pipeline, run_forever, run_notebook, run_once

RESULT = "import json, pathlib\npathlib.Path(result_file).write_text(json.dumps({'summary': f'n is {n}'}))"


def notebook(path: Path, *cells: str, tagged: bool = True) -> Path:
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(text) for text in ("n = 1\nresult_file = ''", *cells)]
    if tagged:
        book.cells[0].metadata["tags"] = ["parameters"]
    book.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(book, path)
    return path


def pipeline(folder: Path, text: str = "", name: str = "book.ipynb") -> Path:
    file = folder / "p.yaml"
    file.write_text(f"name: p\nnotebook: {name}\nout: {folder / 'out'}\n{text}")
    return file


def test_a_run_leaves_the_result_the_notebook_and_a_report_that_opens_offline(tmp_path):
    run = run_notebook(notebook(tmp_path / "book.ipynb", RESULT), {"n": 3}, tmp_path / "out", "first")
    assert run.result == {"summary": "n is 3"}
    assert nbformat.read(run.notebook, 4).cells[1].source.find("n = 3") >= 0
    page = run.report.read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page), "nothing is loaded from outside"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["first.html", "first.ipynb"]


def test_an_unknown_parameter_is_refused_before_anything_runs(tmp_path):
    book = notebook(tmp_path / "book.ipynb", RESULT)
    with pytest.raises(ConfigError, match=r"no parameter m; its parameters are n"):
        run_notebook(book, {"m": 3}, tmp_path / "out", "first")
    assert not (tmp_path / "out").exists()


def test_a_notebook_without_a_parameters_cell_is_refused(tmp_path):
    book = notebook(tmp_path / "book.ipynb", RESULT, tagged=False)
    with pytest.raises(ConfigError, match="no cell tagged `parameters`"):
        run_notebook(book, {}, tmp_path / "out", "first")


@pytest.mark.parametrize(
    ("value", "text"),
    [((1, 2), "tuple"), (Path("x"), "Path"), (float("inf"), "finite"), (float("nan"), "finite"), ({1: 2}, "key 1")],
)
def test_a_value_that_a_notebook_would_garble_is_refused(tmp_path, value, text):
    with pytest.raises(ConfigError, match=re.escape(text) if "key" not in text else "key"):
        run_notebook(notebook(tmp_path / "book.ipynb", RESULT), {"n": value}, tmp_path / "out", "first")


def test_a_parameter_that_looks_like_a_secret_is_refused(tmp_path):
    book = notebook(tmp_path / "book.ipynb", RESULT)
    cells = nbformat.read(book, 4)
    cells.cells[0].source += "\nhub_token = ''"
    nbformat.write(cells, book)
    with pytest.raises(ConfigError, match="looks like a secret"):
        run_notebook(book, {"hub_token": "abc"}, tmp_path / "out", "first")


@pytest.mark.parametrize("error", [ConfigError, DataFault, ChainFault])
def test_an_error_raised_in_a_cell_keeps_its_type_and_text(tmp_path, error):
    cell = f"from sn37.errors import {error.__name__}\nraise {error.__name__}('because of it')"
    with pytest.raises(error, match="because of it"):
        run_notebook(notebook(tmp_path / "book.ipynb", cell, RESULT), {}, tmp_path / "out", "first")
    assert "because of it" in (tmp_path / "out" / "first.html").read_text()


def test_any_other_error_is_the_evaluators(tmp_path):
    with pytest.raises(EvaluatorFault, match="ZeroDivisionError"):
        run_notebook(notebook(tmp_path / "book.ipynb", "1 / 0"), {}, tmp_path / "out", "first")


def test_a_run_that_ends_without_its_result_has_failed(tmp_path):
    with pytest.raises(EvaluatorFault, match="without its result"):
        run_notebook(notebook(tmp_path / "book.ipynb", "pass"), {}, tmp_path / "out", "first")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_kernel_is_a_fault_and_an_earlier_result_does_not_hide_it(tmp_path):
    book = notebook(tmp_path / "book.ipynb", "import os, signal\nif n: os.kill(os.getpid(), signal.SIGKILL)", RESULT)
    assert run_notebook(book, {"n": 0}, tmp_path / "out", "first").result["summary"] == "n is 0"
    with pytest.raises(EvaluatorFault, match="stopped"):
        run_notebook(book, {"n": 1}, tmp_path / "out", "first")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour: red", "colour"),
        ("cadence: hourly", "cadence"),
        ("cadence: 0", "cadence is 0"),
        ("refresh_blocks: -1", "refresh_blocks"),
        ("parameters: [1]", "parameters"),
        ("a: b: c", "no valid YAML"),
    ],
)
def test_a_malformed_pipeline_names_the_file_and_the_field(tmp_path, text, message):
    notebook(tmp_path / "book.ipynb")
    with pytest.raises(ConfigError, match=rf"p\.yaml.*{message}"):
        read_pipeline(pipeline(tmp_path, text))


def test_a_missing_pipeline_or_notebook_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no pipeline file .*none\.yaml"):
        read_pipeline(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"other\.ipynb"):
        read_pipeline(pipeline(tmp_path, name="other.ipynb"))


def test_parameters_given_by_hand_replace_those_of_the_file(tmp_path):
    notebook(tmp_path / "book.ipynb", RESULT)
    chosen = read_pipeline(pipeline(tmp_path, "parameters: {n: 2}"), {"n": 5})
    assert run_once(chosen).result == {"summary": "n is 5"}


def test_the_notebook_and_the_report_join_the_record_the_result_names(tmp_path):
    record = tmp_path / "record"
    record.mkdir()
    cell = f"import json, pathlib\npathlib.Path(result_file).write_text(json.dumps({{'record': {str(record)!r}}}))"
    notebook(tmp_path / "book.ipynb", cell)
    run = run_once(read_pipeline(pipeline(tmp_path)))
    assert run.report == record / "report.html"
    assert sorted(path.name for path in record.iterdir()) == ["epoch.ipynb", "report.html"]


def test_forever_runs_once_for_each_sync_block_and_goes_on_after_a_fault(tmp_path):
    cell = f"seen = {str(tmp_path / 'seen')!r}\nopen(seen, 'a').write('x')\n{RESULT}"
    notebook(tmp_path / "book.ipynb", cell)
    blocks = iter([1, 2, ChainFault("no answer"), 11, 12])
    slept, told = [], []

    def head():
        block = next(blocks)
        if isinstance(block, Exception):
            raise block
        return block

    chosen = read_pipeline(pipeline(tmp_path, "poll_s: 1"))
    run_forever(chosen, head, lambda b: b // 10 * 10, told.append, sleep=slept.append, turns=5)
    assert (tmp_path / "seen").read_text() == "xx"
    assert slept == [1, 1, 2, 1, 1]
    assert "no answer" in told[1]


def test_forever_ends_on_what_only_the_user_can_mend(tmp_path):
    notebook(tmp_path / "book.ipynb", RESULT)
    chosen = read_pipeline(pipeline(tmp_path, "parameters: {m: 2}"))
    with pytest.raises(ConfigError, match="no parameter m"):
        run_forever(chosen, lambda: 1, lambda b: b, print, sleep=lambda _: None, turns=2)


def test_refresh_runs_again_within_one_sync_block(tmp_path):
    notebook(tmp_path / "book.ipynb", RESULT)
    blocks = iter([1, 3, 6])
    told: list[str] = []
    chosen = read_pipeline(pipeline(tmp_path, "refresh_blocks: 5"))
    run_forever(chosen, lambda: next(blocks), lambda b: 0 * b, told.append, sleep=lambda _: None, turns=3)
    assert len(told) == 2
