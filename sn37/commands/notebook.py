"""`sn37 notebook`: any notebook, with parameters, from the command line."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated

import typer

from sn37.commands.run import split_parameter
from sn37.errors import ConfigError

__all__ = ["notebook"]


def notebook(
    name: Annotated[str, typer.Argument(help="A shipped notebook, such as competition_report, or a file.")],
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Set a parameter; JSON, or else text."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder of the executed notebook and its report.")] = Path("runs"),
    parameters: Annotated[
        bool, typer.Option("--parameters", help="List the notebook's parameters, with defaults and meaning, and end.")
    ] = False,
) -> None:
    """Run a notebook once: the executed notebook and its report as one HTML file lie in `out`.

    Relative paths mean the folder this is run in.
    """
    from sn37.files import shipped
    from sn37.notebook import RESULT_FILE, parameters_of, run_notebook

    path = Path(name) if name.endswith(".ipynb") else shipped("notebooks", f"{name}.ipynb")
    known = {key: found for key, found in parameters_of(path).items() if key != RESULT_FILE}
    if parameters:
        for found in known.values():
            typer.echo(f"{found.name} = {found.default}{f'  # {found.comment}' if found.comment else ''}")
        return
    given = dict(split_parameter(text) for text in parameter or [])
    for key, value in given.items():
        if key in known:
            _check_type(key, value, known[key].default)
    told = {key: value for key, value in sorted(given.items()) if not isinstance(value, dict) and "/" not in str(value)}
    words = [path.stem, *(f"{key}-{value}" for key, value in told.items())]
    title = "_".join("".join(c if c.isalnum() or c in "-_." else "-" for c in word)[:40] for word in words)
    done = run_notebook(path, given, out, title)
    typer.echo(f"{done.result.get('summary', 'done')}\nnotebook  {done.notebook}\nreport    {done.report}")


def _check_type(name: str, value: object, default: str) -> None:
    """A value is of the kind of its default: a number where that is one, and so on."""
    try:
        example = ast.literal_eval(default)
    except ValueError:
        return
    fits = isinstance(value, type(example)) or (isinstance(example, str) and isinstance(value, dict))
    if not fits or (isinstance(value, bool) and not isinstance(example, bool)):
        raise ConfigError(f"parameter {name} is {value!r}; expected a value such as {default}")
