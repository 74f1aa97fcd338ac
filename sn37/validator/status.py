"""How a validator is doing: from its records, from what its programs last said, from the chain. Changes nothing.

healthy   its service runs, and neither its epochs nor its weights are older than they may be
late      it runs, but one of them is, or the chain does not answer
dead      no service runs on its folder
"""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout

from sn37.clock import BLOCKS_PER_DAY, SECONDS_PER_BLOCK, duration
from sn37.errors import ConfigError, Sn37Error
from sn37.files import read_json, size_bytes, write_json
from sn37.html import table
from sn37.records.decision import Publication
from sn37.records.epochs import Epoch, Records
from sn37.records.faults import StageFault
from sn37.records.manifest import Manifest
from sn37.validator.fetch import versions
from sn37.validator.journal import folder_of
from sn37.validator.publish import same_weights
from sn37.validator.settings import Settings

if TYPE_CHECKING:
    from sn37.chain import Subnet

__all__ = ["Status", "held", "prometheus", "status"]

Health = Literal["healthy", "late", "dead"]

_LOCK, _HOLDER = ".service.lock", "service.holder.json"
_LOOK_S = 1.0
_LATE_EPOCHS = 2
"""An epoch may take as long as the next one is away; a decision older than so many sync blocks is late."""


@dataclass(frozen=True)
class Status:
    """A validator as it is now."""

    health: Health
    """healthy, late or dead."""
    why: str
    """What makes it late or dead; "" where it is healthy."""
    since: str
    """When its service started; "" where none runs."""
    block: int | None
    """The chain's newest block; None where the chain does not answer."""
    programs: Mapping[str, str]
    """What each program of the service does, as it last said, and when."""
    epoch: str
    """The last decided epoch and its outcome."""
    epoch_age_blocks: int | None
    """Blocks since its sync block."""
    weights: str
    """How the weights were last set."""
    weights_age_blocks: int | None
    """Blocks since the chain last took weights of this hotkey; None where it has none, or does not answer."""
    weights_as_recorded: bool | None
    """Whether the chain's weights are those of the records; None where that cannot be known."""
    open_epochs: Mapping[str, str]
    """Epochs at work or waiting: how far they are, and what they wait for."""
    faults: Mapping[str, int]
    """Faults of the last day, by owner: of models that lost by them, and of epochs that wait."""
    disk_used_bytes: int
    """What the validator's folder takes."""
    disk_free_bytes: int
    """What its disk has left."""
    versions: Mapping[str, str]
    """The versions of the packages that compute."""

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield self.health, self.why or f"running since {self.since}"
        yield "block", "the chain does not answer" if self.block is None else f"{self.block:,}"
        yield from self.programs.items()
        yield "epoch", _aged(self.epoch, self.epoch_age_blocks)
        as_recorded = {True: "as recorded", False: "NOT those of the records", None: "not compared"}
        yield "weights", f"{_aged(self.weights, self.weights_age_blocks)}; {as_recorded[self.weights_as_recorded]}"
        yield from self.open_epochs.items()
        yield "faults", ", ".join(f"{count} of the {owner}" for owner, count in self.faults.items()) or "none in a day"
        yield "disk", f"{self.disk_used_bytes / 1e9:.1f} GB used, {self.disk_free_bytes / 1e9:.1f} GB free"
        yield "versions", ", ".join(f"{name} {version}" for name, version in self.versions.items())

    def __str__(self) -> str:
        return "\n".join(f"{name:<20} {told}" for name, told in self._rows())

    def _repr_html_(self) -> str:
        return table((), self._rows())


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Run the one service of a validator's folder. Raises ConfigError, saying who holds it, where one runs already."""
    # Whoever asks for the status holds the lock for a moment.
    lock = FileLock(root / _LOCK, timeout=_LOOK_S)
    root.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        by = _holder(root)
        told = f"process {by['pid']} on {by['host']}, since {by['since']}"
        raise ConfigError(f"a validator runs on {root} already: {told}; stop it first") from None
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(root / _HOLDER, {"pid": os.getpid(), "host": platform.node(), "since": since})
        yield
    finally:
        lock.release()


def _holder(root: Path) -> dict[str, str]:
    """Who runs the service: pid, host, since."""
    found = read_json(root / _HOLDER)
    known = found if isinstance(found, dict) else {}
    return {name: str(known.get(name, "?")) for name in ("pid", "host", "since")}


def _runs(root: Path) -> bool:
    if not (root / _LOCK).exists():
        return False
    try:
        with FileLock(root / _LOCK, blocking=False):
            return False
    except Timeout:
        return True


def status(settings: Settings, subnet: Subnet) -> Status:
    """How the validator of these settings is doing. Raises ConfigError where its folder is none."""
    root, records = settings.root, Records(settings.root / "records")
    if not root.is_dir():
        raise ConfigError(f"there is no validator in {root}; expected the folder `root` of its pipeline")
    epoch = records.newest()
    block, set_at, on_chain = _chain(settings, subnet)
    published = None if epoch is None else epoch.read(Publication)
    recorded = None if published is None else published.weights
    epoch_age = None if epoch is None or block is None else block - epoch.sync_block
    weights_age = None if block is None or set_at is None else block - set_at
    runs = _runs(root)
    since = _holder(root)["since"] if runs else ""
    why = _late(settings, block, epoch_age, weights_age, since) if runs else "no service runs here"
    return Status(
        health="dead" if not runs else "late" if why else "healthy",
        why=why,
        since=since,
        block=block,
        programs=dict(_programs(root)),
        epoch="none decided yet" if epoch is None else _outcome(epoch),
        epoch_age_blocks=epoch_age,
        weights="none set yet" if published is None else published.chain,
        weights_age_blocks=weights_age,
        weights_as_recorded=None if on_chain is None or not recorded else same_weights(on_chain, recorded),
        open_epochs={f"{e.competition_id} at {e.sync_block:,}": _progress(e) for e in records.open()},
        faults=_faults(records, settings),
        disk_used_bytes=size_bytes(root),
        disk_free_bytes=shutil.disk_usage(root).free,
        versions=versions(),
    )


def _chain(settings: Settings, subnet: Subnet) -> tuple[int | None, int | None, Mapping[str, float] | None]:
    """The newest block, the block of this hotkey's weights, and the weights; None for what cannot be had."""
    try:
        block = subnet.head()
        if not settings.publish:
            return block, None, None
        me = subnet.metagraph().neuron(subnet.hotkey)
        return block, (me.last_update or None) if me else None, subnet.validator_weights().get(subnet.hotkey, {})
    except Sn37Error:
        return None, None, None


def _late(settings: Settings, block: int | None, epoch_age: int | None, weights_age: int | None, since: str) -> str:
    """What makes a running service late; "" where nothing does."""
    cadence, refresh = settings.clock.cadence, settings.figures.refresh_blocks
    if block is None:
        return "the chain does not answer"
    with suppress(ValueError):
        ran = int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()) // SECONDS_PER_BLOCK
        if epoch_age is None and ran > _LATE_EPOCHS * cadence:
            return f"no epoch is decided yet, {ran:,} blocks after the start, more than {_LATE_EPOCHS} x {cadence}"
    if epoch_age is not None and epoch_age > _LATE_EPOCHS * cadence:
        return f"the last decided epoch is {epoch_age:,} blocks old, more than {_LATE_EPOCHS} x {cadence}"
    if weights_age is not None and weights_age > 2 * refresh:
        return f"the weights are {weights_age:,} blocks old, more than 2 x {refresh}"
    return ""


def _programs(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder_of(root).glob("*.json")):
        said = read_json(path)
        if isinstance(said, dict):
            yield path.stem, f"{said.get('doing')} (at {str(said.get('at'))[:19]})"


def _outcome(epoch: Epoch) -> str:
    best = epoch.decision.best
    score = None if best is None else best.score
    won = "nobody has a score" if best is None or score is None else f"uid {best.uid} won with loss {score:.4f}"
    return f"{epoch.manifest.competition.name} at {epoch.sync_block:,}: {won}"


def _progress(epoch: Epoch) -> str:
    manifest, fault = epoch.read(Manifest), epoch.read(StageFault)
    chosen = 0 if manifest is None else sum(pick.evaluate for pick in manifest.submissions)
    told = f"{len(epoch.results)} of {chosen} models evaluated"
    return told if fault is None else f"{told}; waits after {fault.stage}: {fault.owner} fault: {fault.reason}"


def _faults(records: Records, settings: Settings) -> dict[str, int]:
    """Faults by owner, of the epochs whose sync block is less than a day old."""
    day_ago = datetime.now(UTC) - timedelta(days=1)
    found: Counter[str] = Counter()
    for epoch in records.open():
        fault = epoch.read(StageFault)
        if fault is not None:
            found[fault.owner] += 1
    epochs_a_day = BLOCKS_PER_DAY // settings.clock.cadence + 1
    for id in records.competitions():
        for epoch in records.sealed(id)[-epochs_a_day:]:
            if epoch.manifest.as_of >= day_ago:
                found.update(score.fault.owner for score in epoch.decision.scores if score.fault)
                found["submission"] += len(epoch.decision.set_aside)
    return {owner: count for owner, count in sorted(found.items()) if count}


def _aged(told: str, blocks: int | None) -> str:
    if blocks is None:
        return told
    return f"{told} ({blocks:,} blocks ago, {duration(blocks)})"


def prometheus(found: Status) -> bytes:
    """The status as Prometheus' text format: gauges named `sn37_...`; what is not known is left out."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    health = {"dead": 0, "late": 1, "healthy": 2}[found.health]
    numbers: dict[str, tuple[str, float | None]] = {
        "sn37_health": ("0 dead, 1 late, 2 healthy", health),
        "sn37_block": ("the chain's newest block", found.block),
        "sn37_epoch_age_blocks": ("blocks since the last decided sync block", found.epoch_age_blocks),
        "sn37_weights_age_blocks": ("blocks since weights were last set", found.weights_age_blocks),
        "sn37_weights_as_recorded": ("1 where the chain's weights are those of the records", found.weights_as_recorded),
        "sn37_open_epochs": ("epochs at work or waiting", len(found.open_epochs)),
        "sn37_disk_used_bytes": ("what the validator's folder takes", found.disk_used_bytes),
        "sn37_disk_free_bytes": ("what its disk has left", found.disk_free_bytes),
    }
    for name, (meaning, value) in numbers.items():
        if value is not None:
            Gauge(name, meaning, registry=registry).set(value)
    by_owner = Gauge("sn37_faults", "faults of the last day", ["owner"], registry=registry)
    for owner, count in found.faults.items():
        by_owner.labels(owner).set(count)
    return generate_latest(registry)
