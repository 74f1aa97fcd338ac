"""wandb runs as sources read them, over wandb's own public API, in workers with limits.

The newest steps are read first, back to the time asked for, so that a run of months costs no more than its last
hours. What a run's author decides the size of is bounded; what is longer is left out. Knows nothing of signatures:
sources judge the runs.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from netrc import NetrcParseError, netrc
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

from sn37.errors import ConfigError, DataFault, EvaluatorFault
from sn37.sources.base import DataRow, Run
from sn37.workers.functions import WorkerFunction
from sn37.workers.isolation import ForkServer, WorkerDied

if TYPE_CHECKING:
    import wandb
    from wandb.apis.public import Run as RemoteRun

__all__ = ["WandbRuns", "list_runs", "read_history", "read_run"]

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_RUN = timedelta(days=60)
"""Runs created longer before the time asked for are not looked at."""
MAX_RUNS = 2_000
MAX_CONFIG_CHARACTERS = 100_000
MAX_ROW_CHARACTERS = 2_000_000
MAX_HISTORY_CHARACTERS = 128 << 20

_MAX_PAGES = 50
_MEMORY_BYTES = 2 << 30
_DEADLINE_S = 900.0


@dataclass(frozen=True)
class WandbRuns:
    """Reads runs from a wandb server (`sn37.sources.base.RunReader`).

    >>> WandbRuns()("cortex-t/multi-modality", since, until)[0].config["hotkey"]
    """

    base_url: str = ""
    """The server's address; "" for WANDB_BASE_URL, or the public one."""
    api_key: str = ""
    """The key of an account; "" for WANDB_API_KEY, or what `wandb login` has kept."""
    timeout_s: int = 60
    """Of one request."""
    attempts: int = 4
    """Tries of one request."""
    pause_s: float = 2.0
    """The wait after the first failed try, doubled after each further one."""
    page_steps: int = 1_000
    """Steps asked for at once; fewer where each is long."""

    def __call__(self, project: str, since: datetime, until: datetime) -> Sequence[Run]:
        """The runs alive between `since` and `until`, oldest first (by creation, then id).

        Raises DataFault, ConfigError without an account, and EvaluatorFault.
        """
        found = _in_worker(list_runs, self._with_account(), project, since, until)
        return [Run(run, config, _History(self, project, run, since)) for run, config in found]

    def run(self, project: str, run: str) -> Run:
        """One run by its id, with all of its history. Raises as for many runs."""
        config = _in_worker(read_run, self._with_account(), project, run)
        return Run(run, config, _History(self, project, run, datetime.fromtimestamp(0, UTC)))

    def _with_account(self) -> WandbRuns:
        base_url = self.base_url or os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
        return replace(self, base_url=base_url, api_key=self._key(base_url))

    def _key(self, base_url: str) -> str:
        if key := self.api_key or os.environ.get("WANDB_API_KEY"):
            return key
        with suppress(OSError, NetrcParseError):
            if entry := netrc().authenticators(urlsplit(base_url).hostname or ""):
                return entry[2] or ""
        raise ConfigError("reading wandb runs needs an account: set WANDB_API_KEY, or run `wandb login`")


@dataclass(frozen=True)
class _History:
    """A run's rows back to `since`, in the order of their steps; read anew by each iteration."""

    reader: WandbRuns
    project: str
    run: str
    since: datetime

    def __iter__(self) -> Iterator[DataRow]:
        yield from _in_worker(read_history, self.reader._with_account(), self.project, self.run, self.since)


@functools.cache
def _server() -> ForkServer:
    server = ForkServer(("sn37.data.runs", "wandb"), network="open")
    atexit.register(server.close)
    return server


def _in_worker(
    function: WorkerFunction[Concatenate[WandbRuns, str, P], T],
    reader: WandbRuns,
    project: str,
    *args: P.args,
    **named: P.kwargs,
) -> T:
    try:
        return function.run(_server(), _DEADLINE_S, _MEMORY_BYTES, reader, project, *args, **named)
    except WorkerDied as error:
        raise EvaluatorFault(f"wandb did not give the runs of {project}: {error}") from error


@WorkerFunction
def list_runs(reader: WandbRuns, project: str, since: datetime, until: datetime) -> list[tuple[str, dict[str, object]]]:
    """(id, config) of each run, oldest first."""
    first = (since - LONGEST_RUN).strftime("%Y-%m-%dT%H:%M:%SZ")
    filters = {
        "$and": [{"created_at": {"$gte": first}}, {"created_at": {"$lte": until.strftime("%Y-%m-%dT%H:%M:%SZ")}}]
    }

    def listed() -> list[RemoteRun]:
        found = _api(reader).runs(project, filters=filters, order="+created_at", per_page=500)
        alive = [run for run in found if _time(run.created_at) <= until and _time(run.heartbeat_at) >= since]
        if len(alive) > MAX_RUNS:
            raise DataFault(f"the wandb project {project} has over {MAX_RUNS:,} runs at that time")
        for run in alive:
            run.load_full_data()
        return sorted(alive, key=lambda run: (_time(run.created_at), run.id))

    return [(run.id, _config(run)) for run in _tried(reader, project, listed, "the list of runs")]


@WorkerFunction
def read_run(reader: WandbRuns, project: str, run: str) -> dict[str, object]:
    """The config of one run."""
    return _config(_tried(reader, project, lambda: _api(reader).run(f"{project}/{run}"), f"run {run}"))


def _config(run: RemoteRun) -> dict[str, object]:
    """What the run's author says of it; nothing where that is too long."""
    config: dict[str, object] = _plain(dict(run.config))
    return config if len(json.dumps(config)) <= MAX_CONFIG_CHARACTERS else {}


@WorkerFunction
def read_history(reader: WandbRuns, project: str, run: str, since: datetime) -> list[dict[str, object]]:
    """The rows of one run, in the order of their steps, without those that are too long."""
    what = f"the history of run {run}"
    found = _tried(reader, project, lambda: _api(reader).run(f"{project}/{run}"), what)
    stop = _tried(reader, project, lambda: int(found.lastHistoryStep) + 1, what)
    pages: list[list[dict[str, object]]] = []
    left = MAX_HISTORY_CHARACTERS
    while stop > 0 and left > 0 and len(pages) < _MAX_PAGES:
        start = max(0, stop - reader.page_steps)
        page = _tried(reader, project, partial(_page, found, start, stop), what)
        lengths = [len(json.dumps(row)) for row in page]
        left -= sum(lengths)
        pages.append([row for row, length in zip(page, lengths, strict=True) if length <= MAX_ROW_CHARACTERS])
        if any(_stamp(row) < since.timestamp() for row in page):
            break
        stop = start
    return [row for page in reversed(pages) for row in page]


def _page(run: RemoteRun, start: int, stop: int) -> list[dict[str, object]]:
    scan = run.scan_history(min_step=start, max_step=stop, page_size=stop - start, use_cache=False)
    return sorted(map(_plain, scan), key=lambda row: row.get("_step", 0))


def _api(reader: WandbRuns) -> wandb.Api:
    import wandb
    from wandb.errors import AuthenticationError, UsageError

    try:
        return wandb.Api(overrides={"base_url": reader.base_url}, timeout=reader.timeout_s, api_key=reader.api_key)
    except UsageError as error:
        raise ConfigError(f"reading wandb runs needs an account: set WANDB_API_KEY ({error})") from error
    except AuthenticationError as error:
        raise EvaluatorFault(f"wandb does not accept this account, or does not answer: {error}") from error


def _tried(reader: WandbRuns, project: str, work: Callable[[], T], what: str) -> T:
    """The result of `work`, tried again after a pause while wandb does not answer."""
    for attempt in range(reader.attempts):
        try:
            return work()
        except (ConfigError, DataFault):
            raise
        except Exception as error:  # wandb raises many types, its service's own among them
            if "Could not find run" in str(error):
                raise DataFault(f"wandb has no such run: {error}") from error
            if "Could not find project" in str(error):
                raise DataFault(f"wandb has no project {project}, or it is private") from error
            last = error
        if attempt + 1 < reader.attempts:
            time.sleep(reader.pause_s * 2**attempt)
    raise EvaluatorFault(f"wandb did not give {what} of {project} in {reader.attempts} tries: {last}") from last


def _plain(value: object) -> Any:
    """As JSON has it; None for numbers that are not finite."""
    return json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)


def _stamp(row: DataRow) -> float:
    stamp = row.get("_timestamp")
    return float(stamp) if isinstance(stamp, int | float) else float("inf")


def _time(text: str | None) -> datetime:
    found = datetime.fromisoformat(text) if text else datetime.min
    return found if found.tzinfo else found.replace(tzinfo=UTC)
