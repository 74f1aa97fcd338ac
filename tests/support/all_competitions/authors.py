"""Who writes the data that other subnets lend: validators of subnets 1 and 18 that log to wandb day after day.

What they have logged so far goes by the chain's clock. Beside the runs of the two who are trusted lie those of one
with too little stake, one whose signature is forged and one without any: what sources have to see through.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from signed_runs import Key, cortex_run, prompting_run
from wandb_server import ServedRun

from sn37.devnet.world import HOTKEY

STAKES = {"author-1": 50_000.0, "author-2": 20_000.0, "author-3": 5_000.0}
"""The authors' names and stakes, in TAO; the last one's is not enough."""

NETUIDS = (1, 9, 18)
"""The subnets where they are validators."""

_HONEST, _POOR = "author-1", "author-3"
_PROJECTS = ((prompting_run, "HOTKEY_SS58", "SIGNATURE"), (cortex_run, "hotkey", "signature"))
"""What makes a project's run, and how its config calls the hotkey and the signature."""
_ROWS_A_DAY = 480
_DAYS = 3


def open_keys(wallets: Path) -> dict[str, Key]:
    """The authors' hotkeys by name. They have no password: worthless outside their world."""
    from bittensor import Wallet

    return {name: Wallet(name, HOTKEY, str(wallets)).hotkey for name in STAKES}


@dataclass(frozen=True)
class Logs:
    """The runs of all authors in the last days: one a day by each, and two that must not count.

    Called, it gives them as they stand now; clock: says when that is.
    """

    keys: Mapping[str, Key]
    clock: Callable[[], datetime]
    _made: dict[datetime, list[ServedRun]] = field(default_factory=dict, init=False, repr=False)

    def __call__(self) -> list[ServedRun]:
        now = self.clock().astimezone(UTC)
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        days = [today - timedelta(days=ago) for ago in reversed(range(_DAYS))]
        for gone in self._made.keys() - set(days):
            del self._made[gone]
        for day in days:
            if day not in self._made:
                self._made[day] = list(self._of_day(day))
        return [_so_far(run, now) for day in days for run in self._made[day]]

    def _of_day(self, day: datetime) -> Iterator[ServedRun]:
        honest, poor = self.keys[_HONEST], self.keys[_POOR]
        for make, hotkey, signature in _PROJECTS:
            logged: list[tuple[str, Key, Mapping[str, Any]]] = [(name, key, {}) for name, key in self.keys.items()]
            logged.append(("forged", poor, {hotkey: honest.ss58_address}))
            logged.append(("unsigned", honest, {signature: None}))
            for name, key, claims in logged:
                run_id = f"{make.__name__.removesuffix('_run')}-{name}-{day:%Y%m%d}"
                run = make(key, run_id, day + timedelta(hours=23), rows=_ROWS_A_DAY, hours=23, claims=claims)
                yield replace(run, created_at=day, heartbeat_at=day + timedelta(days=1))


def _so_far(run: ServedRun, now: datetime) -> ServedRun:
    if run.heartbeat_at <= now:
        return run
    written = bisect_right(run.history, now.timestamp(), key=lambda row: row["_timestamp"])
    return replace(run, history=run.history[:written], heartbeat_at=now)
