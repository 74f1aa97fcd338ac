"""Pipelines: papermill's traps are closed, errors keep their type, success is the result file."""

import fcntl
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from sn37.errors import ChainFault, ConfigError, DataFault, EvaluatorFault
from sn37.pipeline import check_parameters, read_pipeline, run_forever, run_notebook, run_once

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


@pytest.mark.parametrize(("key", "secret"), [("hub_token", True), ("password", True), ("max_tokens", False)])
def test_a_secret_inside_a_dictionary_is_refused_too(tmp_path, key, secret):
    book = notebook(tmp_path / "book.ipynb", RESULT)
    if secret:
        with pytest.raises(ConfigError, match=rf"parameter n\.{key} looks like a secret"):
            check_parameters(book, {"n": {key: "abc"}})
    else:
        check_parameters(book, {"n": {key: "abc"}})


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


def test_one_entry_of_a_dictionary_can_be_given_by_hand(tmp_path):
    notebook(tmp_path / "book.ipynb", RESULT)
    file = pipeline(tmp_path, "parameters: {n: 2, more: {hub: a, figures: {alpha: 0.5}}}")
    chosen = read_pipeline(file, {"more.hub": "b", "more.figures.min_share": 0.1, "other.x": 1}).parameters
    assert chosen == {"n": 2, "more": {"hub": "b", "figures": {"alpha": 0.5, "min_share": 0.1}}, "other": {"x": 1}}
    with pytest.raises(ConfigError, match=r"parameter n\.x: n is 2; expected a dictionary"):
        read_pipeline(file, {"n.x": 1})


def test_the_notebook_and_the_report_join_the_record_the_result_names(tmp_path):
    record = tmp_path / "record"
    record.mkdir()
    cell = f"import json, pathlib\npathlib.Path(result_file).write_text(json.dumps({{'record': {str(record)!r}}}))"
    notebook(tmp_path / "book.ipynb", cell)
    run = run_once(read_pipeline(pipeline(tmp_path)))
    assert run.report == record / "report.html"
    assert sorted(path.name for path in record.iterdir()) == ["epoch.ipynb", "report.html"]
    left = [path.name for path in (tmp_path / "out" / "notebooks").iterdir()]
    assert left == [".p.lock"], "kept once"


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


def test_weights_that_came_too_soon_are_set_at_the_block_that_takes_them_and_only_once(tmp_path):
    cell = (
        "import json, pathlib\n"
        f"seen = pathlib.Path({str(tmp_path / 'seen')!r})\n"
        "first = not seen.exists()\nseen.touch()\n"
        "pathlib.Path(result_file).write_text(json.dumps({'weights_possible_from': 5 if first else 4}))"
    )
    notebook(tmp_path / "book.ipynb", cell)
    blocks = iter([1, 4, 5, 6, 7])
    told: list[str] = []
    at: list[int] = []

    def head():
        at.append(next(blocks))
        return at[-1]

    chosen = read_pipeline(pipeline(tmp_path, "refresh_blocks: 300"))
    run_forever(chosen, head, lambda b: 0 * b, lambda text: told.append(f"{at[-1]}"), sleep=lambda _: None, turns=5)
    assert told == ["1", "5"]


def test_a_long_outage_never_ends_the_loop_and_pauses_stay_bounded(tmp_path):
    notebook(tmp_path / "book.ipynb", RESULT)
    slept: list[float] = []

    def head():
        raise ChainFault("no answer")

    chosen = read_pipeline(pipeline(tmp_path, "poll_s: 12"))
    run_forever(chosen, head, lambda b: b, lambda text: None, sleep=slept.append, turns=1_200)
    assert slept[:3] == [24, 48, 96]
    assert set(slept[10:]) == {600.0}


def test_forever_outlives_what_the_user_breaks_while_it_works(tmp_path):
    switch = tmp_path / "broken"
    cell = f"import pathlib\nfrom sn37.errors import ConfigError\nif pathlib.Path({str(switch)!r}).exists():"
    notebook(tmp_path / "book.ipynb", f"{cell} raise ConfigError('your file is wrong')", RESULT)
    told: list[str] = []
    blocks = iter([1, 2, 3])

    def head():
        block = next(blocks)
        switch.touch() if block == 2 else switch.unlink(missing_ok=True)
        return block

    chosen = read_pipeline(pipeline(tmp_path))
    run_forever(chosen, head, lambda b: b, told.append, sleep=lambda _: None, turns=3)
    assert [line.split(":")[0] for line in told] == ["p at 1", "p", "p at 3"]
    assert "your file is wrong; tried again" in told[1]


def test_two_runs_of_one_pipeline_do_not_write_over_each_other(tmp_path):
    notebook(tmp_path / "book.ipynb", "import time\nopen('started', 'w')\ntime.sleep(n)", RESULT)
    chosen = read_pipeline(pipeline(tmp_path))
    folder = tmp_path / "out" / "notebooks"
    folder.mkdir(parents=True)
    with (folder / ".p.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another run of the pipeline p is under way"):
            run_once(chosen)
    assert [path.name for path in folder.iterdir()] == [".p.lock"]


def test_the_notebook_of_ones_own_folder_is_the_one_that_runs(tmp_path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "notebooks").mkdir()
    own = notebook(tmp_path / "notebooks" / "validator_epoch.ipynb", RESULT)
    file = pipeline(tmp_path / "pipelines", name="validator_epoch.ipynb")
    assert read_pipeline(file).notebook == own
    own.unlink()
    assert read_pipeline(file).notebook.name == "validator_epoch.ipynb", "the shipped one, where there is none"


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    (tmp_path / "book.ipynb").write_text("{}{")
    with pytest.raises(ConfigError, match=r"book\.ipynb is no notebook that can be run"):
        run_once(read_pipeline(pipeline(tmp_path)))
    assert not (tmp_path / "out").exists()


def test_a_notebook_that_cannot_say_how_it_ended_is_refused(tmp_path):
    cells = nbformat.read(notebook(tmp_path / "book.ipynb"), 4)
    cells.cells[0].source = "n = 1"
    nbformat.write(cells, tmp_path / "book.ipynb")
    with pytest.raises(ConfigError, match="has no parameter result_file"):
        run_once(read_pipeline(pipeline(tmp_path)))


@pytest.mark.parametrize(("name", "secret"), [("tokenizer", False), ("max_tokens", False), ("hf_token", True)])
def test_only_what_is_called_like_a_secret_is_taken_for_one(tmp_path, name, secret):
    book = notebook(tmp_path / "book.ipynb", RESULT)
    cells = nbformat.read(book, 4)
    cells.cells[0].source += f"\n{name} = ''"
    nbformat.write(cells, book)
    if secret:
        with pytest.raises(ConfigError, match="looks like a secret"):
            check_parameters(book, {name: "x"})
    else:
        check_parameters(book, {name: "x"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a table of name, notebook"),
        ("- a\n- b", "expected a table of name, notebook"),
        ("name: p", "notebook is missing"),
        ("name: P Q\nnotebook: book.ipynb", "name is 'P Q'; expected"),
        ("name: p\nnotebook: book.ipynb\nrefresh_blocks: 1.5", "refresh_blocks is 1.5; expected a valid integer"),
        ("name: p\nnotebook: book.ipynb\ncadence: true", "cadence is True; expected `sync` or a number of blocks"),
        ("name: p\nnotebook: book.ipynb\ntime: 3", "unknown field time; the known fields are name, notebook, cadence"),
    ],
)
def test_what_is_wrong_with_a_pipeline_is_one_sentence(tmp_path, text, message):
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_pipeline(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_a_pipeline_that_is_no_text_is_named(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(ConfigError, match=r"p\.yaml is no valid YAML"):
        read_pipeline(file)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder of the test's own for temporary files, in which leftovers show."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def started(folder: Path, book: Path, name: str) -> subprocess.Popen[str]:
    """A run in a process of its own, with `folder` as its working folder."""
    program = (
        "import sys, pathlib; from sn37.pipeline import run_notebook\n"
        "book, out, name = map(pathlib.Path, sys.argv[1:])\n"
        "print(run_notebook(book, {'n': 3}, out, str(name)).result['summary'])"
    )
    command = [sys.executable, "-c", program, str(book), str(folder / "out"), name]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_runs_at_once_in_one_folder_both_succeed_and_leave_nothing(tmp_path, temporary):
    here = tmp_path / "here"
    here.mkdir()
    # each waits for the other, so that both kernels are alive at the same time
    wait = "import pathlib, time\npathlib.Path(f'{result_file}.up').touch()\n"
    wait += f"while len(list(pathlib.Path({str(temporary)!r}).glob('*/*.up'))) < 2: time.sleep(0.05)\ntime.sleep(1)"
    book = notebook(tmp_path / "book.ipynb", wait, RESULT)
    runs = [started(here, book, name) for name in ("first", "second")]
    for run in runs:
        printed, complaints = run.communicate(timeout=60)
        assert printed.strip() == "n is 3", complaints
    assert sorted(path.name for path in here.rglob("*")) == [
        *("first.html", "first.ipynb", "out", "second.html", "second.ipynb")
    ]
    assert list(temporary.iterdir()) == []


def test_what_a_killed_run_leaves_is_removed_by_the_next(tmp_path, temporary):
    here = tmp_path / "here"
    here.mkdir()
    up = tmp_path / "up"
    slow = notebook(tmp_path / "slow.ipynb", f"import time\nopen({str(up)!r}, 'w')\ntime.sleep(600)", RESULT)
    with started(here, slow, "run") as killed:
        while not up.exists():
            time.sleep(0.05)
        killed.kill()
    with started(here, notebook(tmp_path / "book.ipynb", RESULT), "run") as following:
        assert following.wait(timeout=60) == 0
    assert sorted(path.name for path in here.rglob("*")) == ["out", "run.html", "run.ipynb"]
    assert list(temporary.iterdir()) == []


def test_a_temporary_folder_with_a_long_name_is_no_obstacle(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert run_notebook(notebook(tmp_path / "book.ipynb", RESULT), {}, tmp_path / "out", "first").result
