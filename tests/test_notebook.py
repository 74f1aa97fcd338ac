"""The parameters of a notebook: what Python says its cell sets, whatever it looks like."""

import logging

import nbformat
import pytest

from sn37.errors import ConfigError
from sn37.notebook import check_parameters, parameters_of, run_notebook, write_prepared


def notebook(path, source, *cells, kind=nbformat.v4.new_code_cell):
    book = nbformat.v4.new_notebook(cells=[kind(source, metadata={"tags": ["parameters"]})])
    book.cells += [nbformat.v4.new_code_cell(text) for text in cells]
    book.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(book, path)
    return path


CELLS = {
    "plain": "a = 1\nb = 'x = 2'",
    "annotated": "a: int = 1\nb: dict[str, 'int | None'] = {}\nc: dict[str, list[int]] = dict(x=[1])",
    "a call with keywords": "more = dict(a=1, b=2)",
    "comments with an equals sign": "# x = 1\nn = 1  # as if y = 2\n#z=3\nurl = 'a#b=c'  # w = 4",
    "several in one line": "a = 1; b = 2; c = d = 3\ne, (f, g) = 4, (5, 6)\nh, *i = 7, 8",
    "a table over several lines": "more = {  # x = 1\n    'y': dict(z=1),\n    # w = 2\n}",
    "a text over several lines": "text = '''\nv = 1\n'''\nlong = \\\n    1",
    "compared, augmented, filled": "a = 1 == 2\na += 1\nb = []\nb[0:] = [1]\nprint(a, end='')",
    "nothing at all": "",
    "a comment only": "# a = 1",
}


@pytest.mark.parametrize("source", CELLS.values(), ids=CELLS)
def test_the_parameters_are_the_names_that_the_cell_sets(tmp_path, source):
    names = {}
    exec(source, names)
    expected = names.keys() - {"__annotations__", "__builtins__"}
    assert parameters_of(notebook(tmp_path / "book.ipynb", source)).keys() == expected


def test_a_parameter_has_the_source_of_its_default_and_what_is_said_of_it(tmp_path):
    source = (
        "a: int = 0x10  # sixteen = 16\nb, c = dict(d=1), 'e'\nf = [  # first\n    1,\n]\ng: str\n%time h = 1\na = 17"
    )
    found = parameters_of(notebook(tmp_path / "book.ipynb", source))
    assert {name: (each.default, each.comment) for name, each in found.items()} == {
        "a": ("17", ""),
        "b": ("dict(d=1)", ""),
        "c": ("'e'", ""),
        "f": ("[  # first\n    1,\n]", "first"),
        "g": ("", ""),
    }


@pytest.mark.parametrize(
    ("source", "kind", "told"),
    [
        ("a = 1", nbformat.v4.new_markdown_cell, "no cell tagged `parameters`"),
        ("a = ", nbformat.v4.new_code_cell, "the parameters cell of .* is no valid Python"),
        ("a <- 1\nb = c(1", nbformat.v4.new_code_cell, "the parameters cell of .* is no valid Python"),
    ],
)
def test_a_cell_that_sets_nothing_in_python_is_refused(tmp_path, source, kind, told):
    with pytest.raises(ConfigError, match=told):
        check_parameters(notebook(tmp_path / "book.ipynb", source, kind=kind), {})


def test_a_parameter_that_only_python_can_read_is_set_without_a_warning(tmp_path, caplog):
    source = "more: dict[str, 'int | None'] = dict(a=1); n = 2\nresult_file = ''"
    write = "import json, pathlib\npathlib.Path(result_file).write_text(json.dumps({'n': n, 'more': more}))"
    book = notebook(tmp_path / "book.ipynb", source, write)
    with caplog.at_level(logging.WARNING):
        run = run_notebook(book, {"n": 3, "more": {"a": 4}}, tmp_path / "out", "first")
    assert run.result == {"n": 3, "more": {"a": 4}}
    assert not caplog.records


def test_a_prepared_notebook_sets_what_it_has_and_keeps_what_is_written_in_it(tmp_path):
    source = notebook(tmp_path / "book.ipynb", "network = 'finney'\nnetuid = 37", "print(network)")
    target = tmp_path / "mine" / "book.ipynb"
    write_prepared(source, {"network": "ws://first", "unknown": 1}, target)
    mine = nbformat.read(target, as_version=4)
    mine.cells[-1].source = "print('mine')"
    nbformat.write(mine, target)
    write_prepared(target, {"network": "ws://second", "more": {}}, target)
    cells = nbformat.read(target, as_version=4).cells
    comment, *lines = cells[1].source.splitlines()
    assert comment.startswith("#") and lines == ['network = "ws://second"']
    assert [cell.source for cell in cells[2:]] == ["print('mine')"]


def test_a_notebook_with_none_of_the_parameters_is_copied(tmp_path):
    source = notebook(tmp_path / "book.ipynb", "last = 50", "print(last)")
    write_prepared(source, {"network": "ws://first"}, tmp_path / "copy.ipynb")
    assert [c.source for c in nbformat.read(tmp_path / "copy.ipynb", as_version=4).cells] == [
        "last = 50",
        "print(last)",
    ]
