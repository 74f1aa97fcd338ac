"""What a validator needs before an hour of evaluation is worth it: checked first, told in sentences."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.errors import ConfigError, HubFault, Sn37Error, disk_faults
from sn37.files import read_json, write_json
from sn37.records.epochs import Records
from sn37.validator.plan import schedule_of
from sn37.validator.settings import Settings

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import Hub

__all__ = ["Finding", "check_ready"]

_IDENTITY = "validator.json"
_SPARE_BYTES = 2 << 30
"""Disk that is kept free beside the models: records, samples, the executed notebooks of many epochs."""
_MODELS_AT_ONCE = 2
"""Models on the disk that are needed at the same time: the one evaluated and the next one."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    """What."""
    holds: bool
    """Whether it is as it must be."""
    told: str
    """How it is, and what to do where it is not."""

    def __str__(self) -> str:
        return f"{'ok ' if self.holds else 'NO '} {self.name:<8} {self.told}"


def check_ready(settings: Settings, subnet: Subnet, hub: Hub) -> list[Finding]:
    """Whether this validator can work: chain, permit, records, device, disk, hub. A fault is a finding too."""
    looks: dict[str, Callable[[Settings, Subnet, Hub], str]] = {
        **{"chain": _chain, "permit": _permit, "records": _records},
        **{"device": _device, "disk": _disk, "hub": _hub},
    }
    return list(_found(looks, settings, subnet, hub))


def _found(
    looks: dict[str, Callable[[Settings, Subnet, Hub], str]], settings: Settings, subnet: Subnet, hub: Hub
) -> Iterator[Finding]:
    for name, look in looks.items():
        try:
            yield Finding(name, True, look(settings, subnet, hub))
        except Sn37Error as error:
            yield Finding(name, False, str(error))


def _chain(settings: Settings, subnet: Subnet, hub: Hub) -> str:
    head = subnet.head()
    if head < settings.clock.genesis:
        raise ConfigError(f"{settings.network} is at block {head:,}, before genesis {settings.clock.genesis:,}")
    return f"{settings.network} at block {head:,}"


def _permit(settings: Settings, subnet: Subnet, hub: Hub) -> str:
    if not settings.publish:
        return "not needed: publish is off"
    me = subnet.metagraph().neuron(subnet.hotkey)
    if me is None:
        raise ConfigError(f"hotkey {subnet.hotkey} is not registered on netuid {settings.netuid}: register it first")
    if not me.validator_permit:
        raise ConfigError(f"uid {me.uid} has no validator permit with a stake of {me.stake:,.0f} TAO: it needs more")
    return f"uid {me.uid}, a stake of {me.stake:,.0f} TAO"


def _records(settings: Settings, subnet: Subnet, hub: Hub) -> str:
    """The folder belongs to one hotkey on one chain, for good."""
    path = settings.root / _IDENTITY
    known = read_json(path)
    mine = {"hotkey": subnet.hotkey if settings.publish else None, "netuid": settings.netuid}
    if known is None and settings.publish:
        write_json(path, mine)
    elif settings.publish and known != mine:
        raise ConfigError(f"{settings.root} belongs to another validator ({known}, not {mine}); choose another root")
    records = Records(settings.root / "records")
    last = records.newest()
    if last is not None and subnet.block_hash(last.sync_block) != last.manifest.block_hash:
        raise ConfigError(f"{records.root} is of another chain than {settings.network}; choose another root")
    decided = sum(len(records.sealed(id)) for id in records.competitions())
    return f"{decided} decided epochs in {records.root}"


def _device(settings: Settings, subnet: Subnet, hub: Hub) -> str:
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*"))
    if settings.executor != "local":
        return f"{settings.device}, of the cluster {settings.executor}"
    if settings.device == "cuda" and not gpus:
        raise ConfigError("device is 'cuda' and this machine shows no GPU: install its driver, or set device: cpu")
    return f"{len(gpus)} GPUs" if gpus and settings.device != "cpu" else "cpu"


def _disk(settings: Settings, subnet: Subnet, hub: Hub) -> str:
    shares = schedule_of(settings, hub, settings.root / "cache" / "competitions").at(subnet.head())
    largest = max((share.competition.constraints.max_bytes for share in shares), default=0)
    with disk_faults(settings.root):
        settings.root.mkdir(parents=True, exist_ok=True)
        needed, free = _MODELS_AT_ONCE * largest + _SPARE_BYTES, shutil.disk_usage(settings.root).free
    if free < needed:
        raise ConfigError(f"{settings.root} has {free / 1e9:.1f} GB free; {needed / 1e9:.1f} GB are needed: make room")
    return f"{free / 1e9:.0f} GB free in {settings.root}"


def _hub(settings: Settings, subnet: Subnet, hub: Hub) -> str:
    if not hub.connection.serves_others():
        raise HubFault(f"the hub {hub.endpoint} serves no model just now")
    return f"{hub.endpoint} answers"
