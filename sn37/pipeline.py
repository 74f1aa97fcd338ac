"""Runs a pipeline file: which notebook, when, with which parameters, by papermill.

Knows nothing of epochs: a notebook's success is the result file it writes last, never the notebook's
own metadata, and a notebook that raises one of the library's errors raises the same error here.
What it does not protect against: a notebook that lies about its result.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sn37 import errors
from sn37.errors import ChainFault, ConfigError, EvaluatorFault, Sn37Error
from sn37.files import shipped

__all__ = ["Pipeline", "Run", "read_pipeline", "run_forever", "run_notebook", "run_once"]

_PLAIN = (str, int, float, bool, type(None))
_SECRET = re.compile(r"token|secret|password|mnemonic|api_?key|private", re.IGNORECASE)


@dataclass(frozen=True)
class Pipeline:
    """One notebook and its cadence.

    name: names its outputs; notebook: a file; cadence: `sync`, at each new sync block, or a number of
    blocks; refresh_blocks: blocks after which it is run again within one sync block, None for never;
    parameters: for the notebook's parameters cell; time_limit_s: of one run; out: where executed notebooks go.
    """

    name: str
    notebook: Path
    cadence: Literal["sync"] | int
    parameters: Mapping[str, Any]
    out: Path
    refresh_blocks: int | None = None
    time_limit_s: int = 12 * 3600
    poll_s: float = 12.0


@dataclass(frozen=True)
class Run:
    """One executed notebook. result: what it wrote last; report: the same notebook as one HTML file."""

    notebook: Path
    report: Path
    result: Mapping[str, Any]
    seconds: float


def read_pipeline(path: Path, overrides: Mapping[str, Any] | None = None) -> Pipeline:
    """Read a pipeline file (YAML). Raises ConfigError naming the file and the field."""
    import yaml
    from pydantic import BaseModel, ConfigDict, Field, ValidationError

    class File(BaseModel):
        model_config = ConfigDict(extra="forbid")
        name: str = Field(pattern=r"^[a-z0-9_-]{1,40}$")
        notebook: str
        cadence: Literal["sync"] | int = "sync"
        refresh_blocks: int | None = Field(None, ge=1)
        time_limit_s: int = Field(12 * 3600, ge=1)
        poll_s: float = Field(12.0, gt=0)
        out: str = "out"
        parameters: dict[str, Any] = {}

    if not path.is_file():
        raise ConfigError(f"no pipeline file {path}; `sn37 init` writes the shipped ones into this folder")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        file = File.model_validate(data)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"{path}: {place}: {first['msg']}, got {first['input']!r}") from error
    if isinstance(file.cadence, int) and file.cadence < 1:
        raise ConfigError(f"{path}: cadence is {file.cadence}; expected `sync` or a number of blocks above 0")
    beside = path.parent / file.notebook
    return Pipeline(
        name=file.name,
        notebook=beside if beside.is_file() else shipped("notebooks", file.notebook),
        cadence=file.cadence,
        parameters={**file.parameters, **(overrides or {})},
        out=Path(file.out),
        refresh_blocks=file.refresh_blocks,
        time_limit_s=file.time_limit_s,
        poll_s=file.poll_s,
    )


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Refuse what papermill only warns of: unknown parameters, a missing parameters cell, values it garbles."""
    import papermill
    from papermill.utils import find_first_tagged_cell_index

    if not notebook.is_file():
        raise ConfigError(f"no notebook {notebook}")
    if find_first_tagged_cell_index(papermill.iorw.load_notebook_node(str(notebook)), "parameters") < 0:
        raise ConfigError(f"{notebook} has no cell tagged `parameters`; tag the cell that sets its parameters")
    known = set(papermill.inspect_notebook(str(notebook)))
    unknown = sorted(set(parameters) - known)
    if unknown:
        choices = ", ".join(sorted(known))
        raise ConfigError(f"{notebook.name} has no parameter {', '.join(unknown)}; its parameters are {choices}")
    for name, value in parameters.items():
        _check_plain(name, value)


def _check_plain(name: str, value: Any) -> None:
    if _SECRET.search(name):
        raise ConfigError(f"parameter {name} looks like a secret; notebooks keep their parameters, use the environment")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ConfigError(f"parameter {name} has the key {key!r}; expected text")
            _check_plain_value(f"{name}.{key}", item)
    else:
        _check_plain_value(name, value)


def _check_plain_value(name: str, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_plain_value(name, item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain_value(f"{name}.{key}", item)
    elif not isinstance(value, _PLAIN):
        raise ConfigError(f"parameter {name} is a {type(value).__name__}; expected a JSON value")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"parameter {name} is {value}; expected a finite number")


def run_notebook(
    notebook: Path, parameters: Mapping[str, Any], out: Path, name: str, *, time_limit_s: int = 12 * 3600
) -> Run:
    """Execute a notebook into `out/name.ipynb` and `out/name.html`.

    The notebook has a parameter `result_file` and writes JSON there last. Raises the library's error
    that a cell raised; EvaluatorFault when the run ended without its result.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    result_file = (out / f".{name}.result.json").absolute()
    values = {**parameters, "result_file": str(result_file)}
    check_parameters(notebook, values)
    out.mkdir(parents=True, exist_ok=True)
    result_file.unlink(missing_ok=True)
    executed = out / f"{name}.ipynb"
    started = time.monotonic()
    try:
        papermill.execute_notebook(
            str(notebook),
            str(executed),
            values,
            kernel_name="python3",
            progress_bar=False,
            autosave_cell_every=1,
            execution_timeout=time_limit_s,
            cwd=str(Path.cwd()),
            config=_ipc(),
        )
    except PapermillExecutionError as error:
        raise _raised(error, executed) from None
    except Exception as error:
        raise EvaluatorFault(f"{notebook.name} stopped: {type(error).__name__}: {error}; see {executed}") from error
    finally:
        report = to_html(executed)
    if not result_file.is_file():
        raise EvaluatorFault(f"{notebook.name} ended without its result; see {executed}")
    result = json.loads(result_file.read_text(encoding="utf-8"))
    result_file.unlink()
    return Run(executed, report, result, time.monotonic() - started)


def _ipc() -> Any:
    # Pipes instead of ports: two runs beside each other never clash.
    from traitlets.config import Config

    return Config({"KernelManager": {"transport": "ipc"}})


def _raised(error: Any, executed: Path) -> Sn37Error:
    known = getattr(errors, error.ename, None) if error.ename in errors.__all__ else None
    if isinstance(known, type) and issubclass(known, Sn37Error):
        return known(error.evalue)
    return EvaluatorFault(f"{executed.name} stopped in cell {error.exec_count}: {error.ename}: {error.evalue}")


def to_html(executed: Path) -> Path:
    """The executed notebook as one HTML file that opens offline."""
    from nbconvert import HTMLExporter

    report = executed.with_suffix(".html")
    if not executed.is_file():
        return report
    exporter: Any = HTMLExporter(template_name="basic", exclude_input_prompt=True)  # type: ignore[no-untyped-call]
    body, _ = exporter.from_filename(str(executed))
    aside = report.with_name(f".{report.name}.{os.getpid()}")
    aside.write_text(_page(executed.stem, body), encoding="utf-8")
    aside.replace(report)
    return report


def _page(title: str, body: str) -> str:
    style = shipped("notebooks", "report.css").read_text(encoding="utf-8")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return f"<!doctype html><html lang=en><head>{head}<style>{style}</style></head><body>{body}</body></html>\n"


def run_once(pipeline: Pipeline, name: str | None = None) -> Run:
    """Run the pipeline's notebook now.

    Where its result names a record, the executed notebook and the report of the run that made it are
    kept there too, as `epoch.ipynb` and `report.html`.
    """
    run = run_notebook(
        pipeline.notebook,
        pipeline.parameters,
        pipeline.out / "notebooks",
        name or pipeline.name,
        time_limit_s=pipeline.time_limit_s,
    )
    record = Path(run.result["record"]) if "record" in run.result else None
    if record is None or (record / "report.html").exists():
        return run
    for source, place in ((run.notebook, record / "epoch.ipynb"), (run.report, record / "report.html")):
        aside = place.with_name(f".{place.name}.{os.getpid()}")
        aside.write_bytes(source.read_bytes())
        aside.replace(place)
    return Run(record / "epoch.ipynb", record / "report.html", run.result, run.seconds)


def run_forever(
    pipeline: Pipeline,
    head: Callable[[], int],
    sync_block: Callable[[int], int],
    tell: Callable[[str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    turns: int | None = None,
) -> None:
    """Run the pipeline at its cadence until interrupted, or `turns` times around the loop.

    head: the chain's newest block; sync_block: the sync block of a block. A fault is told and tried
    again with a growing pause; a ConfigError ends the loop, for nobody but the user can mend it.
    """
    done: int | None = None
    ran_at = 0
    failures = 0
    while turns is None or turns > 0:
        turns = None if turns is None else turns - 1
        try:
            block = head()
            due = sync_block(block) if pipeline.cadence == "sync" else block // pipeline.cadence * pipeline.cadence
            refresh = pipeline.refresh_blocks is not None and block - ran_at >= pipeline.refresh_blocks
            if due != done or refresh:
                run = run_once(pipeline, f"{pipeline.name}-{due}")
                tell(
                    f"{pipeline.name} at {due}: {run.result.get('summary', 'done')} ({run.seconds:.0f} s) {run.report}"
                )
                done, ran_at = due, block
            failures = 0
        except ConfigError:
            raise
        except Sn37Error as error:
            failures += 1
            kind = "chain" if isinstance(error, ChainFault) else error.owner
            tell(f"{pipeline.name}: {kind} fault: {error}; tried again")
        sleep(min(pipeline.poll_s * 2**failures, 600.0))
