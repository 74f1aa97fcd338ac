"""Runs a pipeline file: which notebook, when, with which parameters.

Knows nothing of epochs: when a notebook is due is told by blocks, how it ended by its result.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from sn37.documents import parse
from sn37.errors import ConfigError, Sn37Error, disk_fault
from sn37.files import shipped, write_bytes
from sn37.notebook import Run, check_parameters, run_notebook
from sn37.values import Checked, Rule

__all__ = ["Pipeline", "Run", "check_parameters", "read_pipeline", "run_forever", "run_notebook", "run_once"]

_LONGEST_PAUSE_S = 600.0


@dataclass(frozen=True)
class Pipeline:
    """One notebook and its cadence."""

    name: str
    """Names its outputs."""
    notebook: Path
    cadence: Literal["sync"] | int
    """`sync`, at each new sync block, or a number of blocks."""
    parameters: Mapping[str, object]
    """Values for the notebook's parameters cell."""
    out: Path
    """The folder of executed notebooks."""
    refresh_blocks: int | None = None
    """Blocks after which it is run again within one sync block; None for never."""
    time_limit_s: int = 12 * 3600
    """The time limit of one run."""
    poll_s: float = 12.0
    """The pause between two looks at the chain."""


def _is_cadence(value: object) -> bool:
    return value == "sync" or (type(value) is int and value > 0)


@dataclass(frozen=True)
class _File(Checked):
    """A pipeline as its file has it."""

    name: str
    notebook: str
    cadence: object = "sync"
    refresh_blocks: int | None = None
    time_limit_s: int = 12 * 3600
    poll_s: float = 12.0
    out: str = "out"
    parameters: dict[str, object] = field(default_factory=dict)

    RULES = (
        Rule("name", re.compile(r"[a-z0-9_-]{1,40}").fullmatch, "up to 40 of a-z, 0-9, _ and -"),
        Rule("notebook", bool, "a notebook's name"),
        Rule("cadence", _is_cadence, "`sync` or a number of blocks above 0"),
        Rule("refresh_blocks", lambda blocks: blocks is None or blocks > 0, "a number of blocks above 0"),
        Rule("time_limit_s", lambda seconds: seconds > 0, "a number above 0"),
        Rule("poll_s", lambda seconds: seconds > 0, "a number above 0"),
    )


def read_pipeline(path: Path, overrides: Mapping[str, object] | None = None) -> Pipeline:
    """Read a pipeline file (YAML). Raises ConfigError naming the file and every mistake in it.

    The notebook lies beside the file, or in the folder `notebooks` beside the file's own folder, or is a shipped one.
    """
    import yaml

    if not path.is_file():
        raise ConfigError(f"there is no pipeline file {path}; `sn37 init` writes the shipped ones into a folder")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    file = parse(_File, data, str(path))
    return Pipeline(
        name=file.name,
        notebook=_notebook(path, file.notebook),
        cadence=file.cadence if isinstance(file.cadence, int) else "sync",
        parameters=_overridden(file.parameters, overrides or {}),
        out=Path(file.out),
        refresh_blocks=file.refresh_blocks,
        time_limit_s=file.time_limit_s,
        poll_s=file.poll_s,
    )


def _overridden(parameters: Mapping[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    """The parameters with others in their place; `more.wandb` names one entry of the dictionary `more`."""
    given = dict(parameters)
    for place, value in overrides.items():
        *path, last = place.split(".")
        table = given
        for name in path:
            inner = table.get(name, {})
            if not isinstance(inner, Mapping):
                raise ConfigError(f"parameter {place}: {name} is {inner!r}; expected a dictionary")
            inner = dict(inner)
            table[name], table = inner, inner
        table[last] = value
    return given


def _notebook(pipeline: Path, name: str) -> Path:
    home = pipeline.absolute().parent
    for place in (home / name, home.parent / "notebooks" / name):
        if place.is_file():
            return place
    return shipped("notebooks", name)


def run_once(pipeline: Pipeline, name: str | None = None) -> Run:
    """Run the pipeline's notebook now.

    Where its result names a record, the executed notebook and the report of the run that made it are
    kept there, as `epoch.ipynb` and `report.html`. Raises what the notebook raised, and ConfigError where
    another run of this pipeline is under way.
    """
    folder = pipeline.out / "notebooks"
    check_parameters(pipeline.notebook, pipeline.parameters)
    with _alone(folder, pipeline.name):
        run = run_notebook(
            pipeline.notebook, pipeline.parameters, folder, name or pipeline.name, time_limit_s=pipeline.time_limit_s
        )
        record = Path(str(run.result["record"])) if "record" in run.result else None
        if record is None or (record / "report.html").exists():
            return run
        for source, place in ((run.notebook, record / "epoch.ipynb"), (run.report, record / "report.html")):
            write_bytes(place, source.read_bytes())
            source.unlink()
    return Run(record / "epoch.ipynb", record / "report.html", run.result, run.seconds)


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Two runs of one pipeline would write over each other; the lock goes with the process that holds it."""
    lock = FileLock(folder / f".{name}.lock", blocking=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"another run of the pipeline {name} is under way in {folder}; wait for it, or choose another out"
        ) from None
    except OSError as error:
        raise disk_fault(error, folder) from error
    try:
        yield
    finally:
        lock.release()


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

    head: the chain's newest block; sync_block: the sync block of a block; tell: where it says what it did. A run
    whose result names a block `weights_possible_from` is repeated from that block on. A fault is reported and tried
    again with a growing pause. A ConfigError ends the loop while nothing has succeeded in it: nobody but the user
    can mend that. Once something has, it is reported as well: a validator that works never stops by itself.
    """
    check_parameters(pipeline.notebook, pipeline.parameters)
    done: int | None = None
    ran_at = failures = 0
    again_at: int | None = None
    while turns is None or turns > 0:
        turns = None if turns is None else turns - 1
        try:
            block = head()
            due = sync_block(block) if pipeline.cadence == "sync" else block // pipeline.cadence * pipeline.cadence
            refresh = pipeline.refresh_blocks is not None and block - ran_at >= pipeline.refresh_blocks
            postponed = again_at is not None and block >= again_at
            if due != done or refresh or postponed:
                run = run_once(pipeline, f"{pipeline.name}-{due}")
                tell(
                    f"{pipeline.name} at {due}: {run.result.get('summary', 'done')} ({run.seconds:.0f} s) {run.report}"
                )
                done, ran_at = due, block
                again_at = _postponed_to(run.result, block)
            failures = 0
        except Sn37Error as error:
            if isinstance(error, ConfigError) and done is None:
                raise
            failures += 1
            kind = "error" if isinstance(error, ConfigError) else f"{error.owner} fault"
            tell(f"{pipeline.name}: {kind}: {error}; tried again")
        # The exponent is bounded too: a float knows no power of 2 above 1024.
        sleep(min(pipeline.poll_s * 2 ** min(failures, 20), _LONGEST_PAUSE_S))


def _postponed_to(result: Mapping[str, object], block: int) -> int | None:
    """The block from which on the chain takes the weights that it has just refused as too soon."""
    wanted = result.get("weights_possible_from")
    return wanted if isinstance(wanted, int) and wanted > block else None
