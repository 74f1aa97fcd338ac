"""`sn37 notebook`: any notebook, with parameters, from the command line."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sn37.commands.run import split_parameter
from sn37.errors import ConfigError

if TYPE_CHECKING:
    from sn37.notebook import Parameter

__all__ = ["notebook"]

_KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", dict: "a table", list: "a list"}


def notebook(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A shipped notebook, such as competition_report, or a file.")] = "",
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Set a parameter; JSON, or else text."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder of the executed notebook and its report.")] = Path("runs"),
    describe: Annotated[
        bool, typer.Option("--help", "-h", help="Show this; with NAME that notebook's parameters instead.")
    ] = False,
) -> None:
    """Run a notebook once: the executed notebook and its report as one HTML file lie in `out`.

    Relative paths mean the folder this is run in.
    """
    from sn37.files import shipped
    from sn37.notebook import RESULT_FILE, parameters_of, run_notebook

    if not name:
        typer.echo(context.get_help())
        return
    path = Path(name) if name.endswith(".ipynb") else shipped("notebooks", f"{name}.ipynb")
    known = {key: found for key, found in parameters_of(path).items() if key != RESULT_FILE}
    if describe:
        _describe(path, known.values())
        return
    given = dict(split_parameter(text) for text in parameter or [])
    for key, value in given.items():
        if key in known:
            _check_type(known[key], value)
    told = {key: value for key, value in sorted(given.items()) if not isinstance(value, dict) and "/" not in str(value)}
    words = [path.stem, *(f"{key}-{value}" for key, value in told.items())]
    title = "_".join("".join(c if c.isalnum() or c in "-_." else "-" for c in word)[:40] for word in words)
    done = run_notebook(path, given, out, title)
    typer.echo(f"{done.result.get('summary', 'done')}\nnotebook  {done.notebook}\nreport    {done.report}")


def _describe(notebook: Path, parameters: Iterable[Parameter]) -> None:
    """The parameters with their kinds, defaults and meaning, one a line."""
    from rich.console import Console
    from rich.table import Table

    table = Table("parameter", "kind", "default", "meaning", box=None, pad_edge=False)
    for each in parameters:
        # A meaning may hold brackets, which rich would take for its own.
        table.add_row(*(text.replace("[", r"\[") for text in (each.name, _kind(each), each.default, each.comment)))
    console = Console(highlight=False)
    console.print(f"{notebook.stem}: set with -p NAME=VALUE", markup=False)
    console.print(table)


def _example(parameter: Parameter) -> object:
    """The value of its default; None where that is no literal."""
    try:
        return ast.literal_eval(parameter.default)
    except (ValueError, SyntaxError):
        return None


def _kind(parameter: Parameter) -> str:
    return _KINDS.get(type(_example(parameter)), "any value")


def _check_type(parameter: Parameter, value: object) -> None:
    """A value is of the kind of its default: a number where that is one, and so on.

    A table of names may stand for a text, and anything for "", which stands for no value.
    """
    example = _example(parameter)
    also = {float: (int,), str: (dict,)}.get(type(example), ())
    if example not in (None, "") and type(value) not in (type(example), *also):
        raise ConfigError(
            f"parameter {parameter.name} is {value!r}; expected {_kind(parameter)}, such as {parameter.default}"
        )
