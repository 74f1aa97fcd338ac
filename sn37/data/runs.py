"""wandb runs as sources read them, over wandb's own public API.

The newest steps are read first, back to the time asked for, so that a run of months costs no more than
its last hours. Knows nothing of signatures: sources judge the runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sn37.errors import ConfigError, DataFault, EvaluatorFault
from sn37.sources.base import Run

__all__ = ["WandbRuns"]

T = TypeVar("T")

LONGEST_RUN = timedelta(days=60)
"""Runs created longer before the time asked for are not looked at."""

_PAGE_STEPS = 1_000
_MAX_PAGES = 50


@dataclass(frozen=True)
class WandbRuns:
    """Reads runs from a wandb server. base_url, api_key: "" for what wandb is set up with (its environment
    variables WANDB_BASE_URL and WANDB_API_KEY, or `wandb login`). attempts: tries of one request."""

    base_url: str = ""
    api_key: str = ""
    timeout_s: int = 60
    attempts: int = 4
    pause_s: float = 2.0

    def __call__(self, project: str, since: datetime, until: datetime) -> Sequence[Run]:
        """The runs alive between `since` and `until`, oldest first (by creation, then id); see RunReader."""
        filters = {
            "$and": [{"created_at": {"$gte": _text(since - LONGEST_RUN)}}, {"created_at": {"$lte": _text(until)}}]
        }

        def listed() -> list[Any]:
            found = self._api().runs(project, filters=filters, order="+created_at", per_page=500)
            alive = [run for run in found if _time(run.created_at) <= until and _time(run.heartbeat_at) >= since]
            for run in alive:
                run.load_full_data()
            return alive

        runs = self._tried(listed, f"the runs of {project}", project)
        runs.sort(key=lambda run: (_time(run.created_at), run.id))
        return [Run(run.id, dict(run.config), _History(self, run, since)) for run in runs]

    def _api(self) -> Any:
        import wandb
        from wandb.errors import AuthenticationError, UsageError

        base_url = self.base_url or os.environ.get("WANDB_BASE_URL", "")
        try:
            return wandb.Api(
                overrides={"base_url": base_url} if base_url else None,
                timeout=self.timeout_s,
                api_key=self.api_key or os.environ.get("WANDB_API_KEY"),
            )
        except UsageError as error:
            raise ConfigError(
                f"reading wandb runs needs an account: set WANDB_API_KEY, or run `wandb login` ({error})"
            ) from error
        except AuthenticationError as error:
            raise EvaluatorFault(f"wandb does not accept this account, or does not answer: {error}") from error

    def _tried(self, work: Callable[[], T], what: str, project: str) -> T:
        """The result of `work`, tried again after a pause while wandb does not answer."""
        for attempt in range(self.attempts):
            try:
                return work()
            except (ConfigError, DataFault):
                raise
            except ValueError as error:
                if "Could not find project" in str(error):
                    raise DataFault(f"wandb has no project {project}, or it is private") from error
                last: Exception = error
            except Exception as error:  # wandb raises many types, its service's own among them
                last = error
            if attempt + 1 < self.attempts:
                time.sleep(self.pause_s * 2**attempt)
        raise EvaluatorFault(f"wandb did not give {what} in {self.attempts} tries: {last}") from last


@dataclass(frozen=True)
class _History:
    """A run's rows back to `since`, in the order of their steps."""

    reader: WandbRuns
    run: Any
    since: datetime

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        what = f"the history of run {self.run.id}"
        project = f"{self.run.entity}/{self.run.project}"
        stop = self.reader._tried(lambda: int(self.run.lastHistoryStep) + 1, what, project)
        pages: list[list[dict[str, Any]]] = []
        while stop > 0 and len(pages) < _MAX_PAGES:
            start = max(0, stop - _PAGE_STEPS)
            rows = self.reader._tried(lambda a=start, b=stop: self._page(a, b), what, project)  # type: ignore[misc]
            pages.append(rows)
            if any(_stamp(row) < self.since.timestamp() for row in rows):
                break
            stop = start
        for rows in reversed(pages):
            yield from rows

    def _page(self, start: int, stop: int) -> list[dict[str, Any]]:
        scan = self.run.scan_history(min_step=start, max_step=stop, page_size=_PAGE_STEPS, use_cache=False)
        return sorted(scan, key=lambda row: row.get("_step", 0))


def _stamp(row: Mapping[str, Any]) -> float:
    stamp = row.get("_timestamp")
    return float(stamp) if isinstance(stamp, int | float) else float("inf")


def _time(text: str | None) -> datetime:
    found = datetime.fromisoformat(text) if text else datetime.min
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
