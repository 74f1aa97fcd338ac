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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from netrc import NetrcParseError, netrc
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sn37.errors import ConfigError, DataFault, EvaluatorFault
from sn37.sources.base import Run
from sn37.workers.isolation import ForkServer, WorkerDied

__all__ = ["WandbRuns", "list_runs", "read_history"]

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
        listed = self._work("list_runs", project=project, since=since.timestamp(), until=until.timestamp())["runs"]
        return [Run(run["id"], run["config"], _History(self, project, run["id"], since)) for run in listed]

    def run(self, project: str, run: str) -> Run:
        """One run by its id, with all of its history. Raises as for many runs."""
        found = self._work("read_run", project=project, run=run)
        return Run(run, found["config"], _History(self, project, run, datetime.fromtimestamp(0, UTC)))

    def _work(self, job: str, **task: str | float) -> dict[str, Any]:
        base_url = self.base_url or os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
        patience = {"timeout_s": self.timeout_s, "attempts": self.attempts, "pause_s": self.pause_s}
        patience["page_steps"] = self.page_steps
        payload = {"base_url": base_url, "api_key": self._key(base_url), **patience, **task}
        try:
            return _server().call(
                f"sn37.data.runs:{job}", payload, time_limit_s=_DEADLINE_S, memory_bytes=_MEMORY_BYTES
            )
        except WorkerDied as error:
            raise EvaluatorFault(f"wandb did not give the runs of {task['project']}: {error}") from error

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

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        task: dict[str, str | float] = {"project": self.project, "run": self.run, "since": self.since.timestamp()}
        yield from self.reader._work("read_history", **task)["rows"]


@functools.cache
def _server() -> ForkServer:
    server = ForkServer(("sn37.data.runs", "wandb"), network="open")
    atexit.register(server.close)
    return server


def list_runs(payload: Mapping[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The job of a worker: {"runs": [{"id", "config"}]}. A config that is too long comes as an empty one."""
    since, until = (datetime.fromtimestamp(payload[name], UTC) for name in ("since", "until"))
    first = (since - LONGEST_RUN).strftime("%Y-%m-%dT%H:%M:%SZ")
    filters = {
        "$and": [{"created_at": {"$gte": first}}, {"created_at": {"$lte": until.strftime("%Y-%m-%dT%H:%M:%SZ")}}]
    }

    def listed() -> list[Any]:
        found = _api(payload).runs(payload["project"], filters=filters, order="+created_at", per_page=500)
        alive = [run for run in found if _time(run.created_at) <= until and _time(run.heartbeat_at) >= since]
        if len(alive) > MAX_RUNS:
            raise DataFault(f"the wandb project {payload['project']} has over {MAX_RUNS:,} runs at that time")
        for run in alive:
            run.load_full_data()
        return alive

    runs = sorted(_tried(payload, listed, "the list of runs"), key=lambda run: (_time(run.created_at), run.id))
    return {"runs": [{"id": run.id, "config": _config(run)} for run in runs]}


def read_run(payload: Mapping[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The job of a worker: {"config"} of one run."""
    path = f"{payload['project']}/{payload['run']}"
    return {"config": _config(_tried(payload, lambda: _api(payload).run(path), f"run {payload['run']}"))}


def _config(run: Any) -> dict[str, Any]:
    """What the run's author says of it; nothing where that is too long."""
    config: dict[str, Any] = _plain(dict(run.config))
    return config if len(json.dumps(config)) <= MAX_CONFIG_CHARACTERS else {}


def read_history(payload: Mapping[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The job of a worker: {"rows": [...]} of one run, in the order of their steps, without those that are too long."""
    path, what = f"{payload['project']}/{payload['run']}", f"the history of run {payload['run']}"
    run = _tried(payload, lambda: _api(payload).run(path), what)
    stop = _tried(payload, lambda: int(run.lastHistoryStep) + 1, what)
    pages: list[list[dict[str, Any]]] = []
    left = MAX_HISTORY_CHARACTERS
    while stop > 0 and left > 0 and len(pages) < _MAX_PAGES:
        start = max(0, stop - payload["page_steps"])
        page = _tried(payload, lambda a=start, b=stop: _page(run, a, b), what)  # type: ignore[misc]
        lengths = [len(json.dumps(row)) for row in page]
        left -= sum(lengths)
        pages.append([row for row, length in zip(page, lengths, strict=True) if length <= MAX_ROW_CHARACTERS])
        if any(_stamp(row) < payload["since"] for row in page):
            break
        stop = start
    return {"rows": [row for page in reversed(pages) for row in page]}


def _page(run: Any, start: int, stop: int) -> list[dict[str, Any]]:
    scan = run.scan_history(min_step=start, max_step=stop, page_size=stop - start, use_cache=False)
    return sorted(map(_plain, scan), key=lambda row: row.get("_step", 0))


def _api(payload: Mapping[str, Any]) -> Any:
    import wandb
    from wandb.errors import AuthenticationError, UsageError

    overrides = {"base_url": payload["base_url"]}
    try:
        return wandb.Api(overrides=overrides, timeout=payload["timeout_s"], api_key=payload["api_key"])
    except UsageError as error:
        raise ConfigError(f"reading wandb runs needs an account: set WANDB_API_KEY ({error})") from error
    except AuthenticationError as error:
        raise EvaluatorFault(f"wandb does not accept this account, or does not answer: {error}") from error


def _tried(payload: Mapping[str, Any], work: Callable[[], T], what: str) -> T:
    """The result of `work`, tried again after a pause while wandb does not answer."""
    attempts = payload["attempts"]
    for attempt in range(attempts):
        try:
            return work()
        except (ConfigError, DataFault):
            raise
        except Exception as error:  # wandb raises many types, its service's own among them
            if "Could not find run" in str(error):
                raise DataFault(f"wandb has no such run: {error}") from error
            if "Could not find project" in str(error):
                raise DataFault(f"wandb has no project {payload['project']}, or it is private") from error
            last = error
        if attempt + 1 < attempts:
            time.sleep(payload["pause_s"] * 2**attempt)
    raise EvaluatorFault(f"wandb did not give {what} of {payload['project']} in {attempts} tries: {last}") from last


def _plain(value: object) -> Any:
    """As JSON has it; None for numbers that are not finite."""
    return json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)


def _stamp(row: Mapping[str, Any]) -> float:
    stamp = row.get("_timestamp")
    return float(stamp) if isinstance(stamp, int | float) else float("inf")


def _time(text: str | None) -> datetime:
    found = datetime.fromisoformat(text) if text else datetime.min
    return found if found.tzinfo else found.replace(tzinfo=UTC)
