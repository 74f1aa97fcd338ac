"""Who writes the data that other subnets lend: validators of subnets 1 and 18 that log to wandb day after day.

`python -m sn37.devnet.authors --wallets DIR --chain FILE [--port N]` serves what they have logged so far, by the
chain's clock. Beside the runs of the two who are trusted lie those of one with too little stake, one whose
signature is forged and one without any: what sources have to see through.
"""

from __future__ import annotations

import argparse
import sys
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sn37.devnet.runs import Key, cortex_run, prompting_run

if TYPE_CHECKING:
    from sn37.devnet.wandb import ServedRun

__all__ = ["HOTKEY", "NETUIDS", "STAKES", "Logs", "open_keys"]

STAKES = {"author-1": 50_000.0, "author-2": 20_000.0, "author-3": 5_000.0}
"""The authors' names and stakes, in TAO; the last one's is not enough."""

NETUIDS = (1, 9, 18)
"""The subnets where they are validators."""

HOTKEY = "default"
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; 2 and one sentence where that cannot be."""
    from sn37.devnet.chain import Chain
    from sn37.devnet.wandb import WandbServer
    from sn37.errors import Sn37Error

    parser = argparse.ArgumentParser("python -m sn37.devnet.authors", description="The embedded wandb, on 127.0.0.1.")
    parser.add_argument("--wallets", type=Path, required=True, help="the folder of the authors' wallets")
    parser.add_argument("--chain", type=Path, required=True, help="the embedded chain, whose time it is")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) for any free one")
    options = parser.parse_args(arguments)
    try:
        chain = Chain.open(options.chain)
        logs = Logs(open_keys(options.wallets), chain.now)
        server = WandbServer(port=options.port, logs=logs)
    except (Sn37Error, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    with server:
        print(server.base_url, flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
