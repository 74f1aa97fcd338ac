"""Whose data counts: trusted validators of the subnet the data comes from, and what they really signed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from sn37.sources.base import Context, Run

__all__ = ["MIN_STAKE", "Authors", "signed_rows"]

MIN_STAKE = 10_000.0
"""Stake from which a validator is trusted as an author of data (protocol, section 1)."""


class Authors:
    """The trusted authors on one subnet, as of the sync block."""

    def __init__(self, context: Context, netuid: int, min_stake: float) -> None:
        self._context = context
        self._trusted = context.trusted(netuid, min_stake)
        self._validators = context.trusted(netuid, 0.0)

    def fault(self, hotkey: object) -> str:
        """Why data of `hotkey` is left out, "" where it is trusted."""
        if not isinstance(hotkey, str):
            return "of no validator"
        if hotkey in self._trusted:
            return ""
        return "of an under-staked validator" if hotkey in self._validators else "of no validator"

    def run_fault(self, run: Run, hotkey_key: str, signature_key: str) -> str:
        """Why a run is left out, "" where a trusted author signed its id."""
        hotkey, signature = run.config.get(hotkey_key), run.config.get(signature_key)
        if not (isinstance(hotkey, str) and isinstance(signature, str) and hotkey and signature):
            return "runs unsigned"
        if fault := self.fault(hotkey):
            return f"runs {fault}"
        return (
            "" if self._context.verify(run.id, signature.removeprefix("0x"), hotkey) else "runs with a forged signature"
        )


def signed_rows(
    context: Context, project: str, authors: Authors, keys: tuple[str, str], max_age_hours: float, max_rows: int
) -> Iterator[Mapping[str, Any]]:
    """The history rows of the last hours before the sync block, of runs signed by trusted authors.

    keys: the config keys of hotkey and signature; max_rows: the most rows taken from one run.
    """
    since = context.as_of - timedelta(hours=max_age_hours)
    for run in context.runs(project, since, context.as_of):
        if fault := authors.run_fault(run, *keys):
            context.drop(fault)
            continue
        taken = 0
        for row in run.history:
            if taken == max_rows:
                context.drop("runs cut short")
                break
            if _within(row.get("_timestamp"), since, context.as_of):
                taken += 1
                yield row


def _within(timestamp: object, since: datetime, until: datetime) -> bool:
    return isinstance(timestamp, int | float) and since.timestamp() <= timestamp <= until.timestamp()
