"""Runs one notebook with papermill, its traps closed: what papermill only warns of is an error here.

A notebook's success is the result file it writes last, never the notebook's own metadata; a notebook that
raises one of the library's errors raises the same error here. Knows nothing of epochs.
What it does not protect against: a notebook that lies about its result.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import math
import os
import re
import time
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from sn37 import errors
from sn37.errors import ConfigError, EvaluatorFault, Sn37Error, disk_fault, disk_faults
from sn37.files import shipped, write_json, write_text
from sn37.scratch import ScratchFolder

__all__ = [
    "RESULT_FILE",
    "Parameter",
    "Run",
    "check_parameters",
    "parameters_of",
    "run_notebook",
    "to_html",
    "write_prepared",
]

RESULT_FILE = "result_file"
"""The parameter that says where a notebook writes, last, how it ended."""

_MAX_SOCKET_FOLDER_BYTES = 85
_PLAIN = (str, int, float, bool, type(None))
_SECRET = re.compile(r"(^|[_.])(token|secret|password|mnemonic|api_?key|private_?key)$", re.IGNORECASE)


@dataclass(frozen=True)
class Run:
    """One executed notebook. result: what it wrote last; report: the same notebook as one HTML file."""

    notebook: Path
    report: Path
    result: Mapping[str, object]
    seconds: float


def run_notebook(
    notebook: Path, parameters: Mapping[str, object], out: Path, name: str, *, time_limit_s: int = 12 * 3600
) -> Run:
    """Execute a notebook into `out/name.ipynb` and `out/name.html`.

    The notebook has a parameter `result_file` and writes JSON there last. Raises the library's error
    that a cell raised; EvaluatorFault when the run ended without its result, or the disk takes no more.
    """
    check_parameters(notebook, {**parameters, RESULT_FILE: ""})
    executed = out / f"{name}.ipynb"
    started = time.monotonic()
    with disk_faults(out):
        out.mkdir(parents=True, exist_ok=True)
    with ScratchFolder() as scratch:
        result_file = scratch / "result.json"
        failure = _execute(notebook, {**parameters, RESULT_FILE: str(result_file)}, executed, scratch, time_limit_s)
        result = _read_result(result_file)
    try:
        report = to_html(executed)
    except (OSError, ValueError, EvaluatorFault) as error:
        # A notebook that a full disk has cut off is none; what stopped the run itself counts first.
        executed.unlink(missing_ok=True)
        raise failure or EvaluatorFault(f"the report of {executed} cannot be made: {error}") from error
    if failure is not None:
        raise failure
    if result is None:
        raise EvaluatorFault(f"{notebook.name} ended without its result; see {executed}")
    return Run(executed, report, result, time.monotonic() - started)


def _read_result(file: Path) -> dict[str, object] | None:
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) else None


def _execute(
    notebook: Path, values: Mapping[str, object], executed: Path, scratch: Path, time_limit_s: int
) -> Sn37Error | None:
    """Let papermill run a notebook; the error that stopped it, if one did.

    scratch: a private folder for the kernel's connection file and sockets: in the working folder, where they are by
    default, two runs would share them.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    # A socket of the file system never clashes with another's port, but its path holds no more than 107 bytes.
    transport = "ipc" if len(os.fsencode(scratch)) <= _MAX_SOCKET_FOLDER_BYTES else "tcp"
    connection = {"transport": transport, "connection_file": str(scratch / "kernel.json")}
    here = str(Path.cwd())
    try:
        # The kernel inherits both: PWD may still name the folder before a change of it; nobody looks at its bars.
        with _environment(PWD=here, TQDM_DISABLE="1"), _quiet("papermill"):
            papermill.execute_notebook(
                str(notebook),
                str(executed),
                dict(values),
                kernel_name="python3",
                progress_bar=False,
                autosave_cell_every=1,
                execution_timeout=time_limit_s,
                # A kernel that is stopped after an error must not write a second complaint to our standard error.
                extra_arguments=["--IPKernelApp.log_level=50"],
                cwd=here,
                config=Config({"KernelManager": connection}),
            )
    except PapermillExecutionError as error:
        return _raised(error, executed)
    except OSError as error:
        return disk_fault(error, executed)
    except Exception as error:  # a dead kernel, a time limit: each client has types of its own
        return EvaluatorFault(f"{notebook.name} stopped: {type(error).__name__}: {error}; see {executed}")
    return None


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without a library's warnings: papermill warns of each parameter that its own guess does not find."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _raised(error: Any, executed: Path) -> Sn37Error:
    """The error behind a cell's: only the names of `sn37.errors` tell an owner."""
    known = getattr(errors, error.ename, None) if error.ename in errors.__all__ else None
    if isinstance(known, type) and issubclass(known, Sn37Error):
        return known(error.evalue)
    return EvaluatorFault(f"{executed.name} stopped in cell {error.exec_count}: {error.ename}: {error.evalue}")


@dataclass(frozen=True)
class Parameter:
    """A name that the cell tagged `parameters` sets."""

    name: str
    default: str
    """The source of its value as it stands in the cell; "" where it has a type only (`n: int`)."""
    comment: str
    """What is said behind it, on its last line or else the first that says something."""


def parameters_of(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook by name, from the syntax tree of the cell; a name set twice is as set last.

    Raises ConfigError where the file is no notebook, or has no such cell in Python.
    """
    from IPython.core.inputtransformer2 import TransformerManager
    from papermill.iorw import load_notebook_node

    if not notebook.is_file():
        raise ConfigError(f"there is no notebook {notebook}; name an existing one")
    try:
        cells = load_notebook_node(str(notebook)).cells
        tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ()) and cell.cell_type == "code"]
    except Exception as error:  # whatever papermill and nbformat think of a file that is none
        raise ConfigError(f"{notebook} is no notebook that can be run: {' '.join(str(error).split())[:200]}") from error
    if not tagged:
        raise ConfigError(f"{notebook} has no cell tagged `parameters`; tag the cell that sets its parameters")
    source = TransformerManager().transform_cell(tagged[0].source)  # type: ignore[no-untyped-call]  # magics become calls
    try:
        statements = ast.parse(source).body
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError) as error:
        raise ConfigError(f"the parameters cell of {notebook} is no valid Python: {error}") from error
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    found = {}
    for statement in statements:
        last = statement.end_lineno or statement.lineno
        lines = (last, *range(statement.lineno, last))  # a formatter puts a long one between brackets of their own
        comment = next((comments[line] for line in lines if line in comments), "")
        for name, value in _assigned(statement):
            default = ast.get_source_segment(source, value) if value else None
            found[name] = Parameter(name, default or "", comment)
    return found


def _assigned(statement: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    """The names that a statement sets, and what it sets them to."""
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield from _paired(target, statement.value)
    elif isinstance(statement, ast.AnnAssign):
        yield from _paired(statement.target, statement.value)


def _paired(target: ast.expr, value: ast.expr | None) -> Iterator[tuple[str, ast.expr | None]]:
    several = (ast.Tuple, ast.List)
    if isinstance(target, several) and isinstance(value, several) and len(target.elts) == len(value.elts):
        for each, part in zip(target.elts, value.elts, strict=True):
            yield from _paired(each, part)
        return
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, value


def check_parameters(notebook: Path, parameters: Mapping[str, object]) -> None:
    """Refuse what papermill only warns of: unknown parameters, a missing parameters cell, values it garbles."""
    known = set(parameters_of(notebook))
    if RESULT_FILE not in known:
        raise ConfigError(f"{notebook} has no parameter {RESULT_FILE}: the path where it writes, last, how it ended")
    unknown = sorted(set(parameters) - known)
    if unknown:
        choices = ", ".join(sorted(known - {RESULT_FILE}))
        raise ConfigError(f"{notebook.name} has no parameter {', '.join(unknown)}; its parameters are {choices}")
    for name, value in parameters.items():
        _check_plain(name, value)


def _check_plain(name: str, value: object) -> None:
    """Refuse what a notebook cannot keep, or must not, also inside lists and dictionaries."""
    if _SECRET.search(name) and isinstance(value, str):
        raise ConfigError(f"parameter {name} looks like a secret; notebooks keep their parameters, use the environment")
    if isinstance(value, list):
        for item in value:
            _check_plain(name, item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ConfigError(f"parameter {name} has the key {key!r}; expected text")
            _check_plain(f"{name}.{key}", item)
    elif not isinstance(value, _PLAIN):
        raise ConfigError(f"parameter {name} is a {type(value).__name__}; expected a JSON value")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"parameter {name} is {value}; expected a finite number")


def write_prepared(notebook: Path, parameters: Mapping[str, object], target: Path) -> None:
    """Write a notebook with those of the parameters that it has, in a cell below the one that sets its defaults.

    Where such a cell is there already it is replaced. notebook, target: may be the same file.
    """
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    known = parameters_of(notebook)
    node = load_notebook_node(str(notebook))
    given = {name: value for name, value in parameters.items() if name in known}
    if given:
        node = parameterize_notebook(node, given, comment="Set for this folder")
    write_json(target, node)


_TEMPLATE = """
{%- extends 'basic/index.html.j2' -%}
{%- block input -%}<details><summary>code</summary>{{ super() }}</details>{%- endblock input -%}
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser lets a report do: show itself. What a model wrote can neither run there nor load anything."""


def to_html(executed: Path) -> Path:
    """The executed notebook as one HTML file: opens offline, its code folded, in the reader's light or dark."""
    from nbconvert import HTMLExporter

    report = executed.with_suffix(".html")
    if not executed.is_file():
        return report
    exporter: Any = HTMLExporter(raw_template=_TEMPLATE, exclude_input_prompt=True, exclude_output_prompt=True)  # type: ignore[no-untyped-call]
    body, _ = exporter.from_filename(str(executed))
    style = shipped("notebooks", "report.css").read_text(encoding="utf-8")
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(executed.stem)}</title>'
    )
    page = f"<!doctype html><html lang=en><head>{head}<style>{style}</style></head><body>{body}</body></html>\n"
    write_text(report, page)
    return report
