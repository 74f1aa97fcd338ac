"""A validator's settings: what the parameters cell of its notebook says, checked when made.

No secret is among them: a hub token comes from the environment variable HF_TOKEN, an account to read wandb
runs with from WANDB_API_KEY, a wallet by its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sn37.clock import Clock
from sn37.errors import ConfigError
from sn37.protocol import Figures, SelectionLimits
from sn37.schedule import PUBLIC
from sn37.workers.sandbox import NETWORKS, Network

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Who validates, where, and what.

    network: a network's name or URL; hub: the hub's address, None for the public one; root: folder of
    the records and caches; funding: shares over `public`, public names, competition files and
    `repo@commit`; schedule: a subnet's own schedule file in place of the public one; competition: a
    name or id, None to take turns by sync block; sync_block: None for the newest; device: `auto`, `cpu` or
    `cuda`; workers: processes at once, 0 to choose; control: folder for known-good models, made when needed, that
    decide who is at fault when a worker dies (None: in the caches); worker_network: `isolated`, where evaluating
    without a network namespace is refused, or `isolation not required`; wandb: `offline`, `online` or `off`, the mirror
    of the epochs; runs_url: the wandb server whose signed runs sources read, None for the one wandb is set up with;
    tasks: Python files and entry points with sources and methods of this validator's own.
    """

    network: str = "finney"
    netuid: int = 37
    wallet: str = "default"
    hotkey: str = "default"
    wallet_path: str = "~/.bittensor/wallets"
    hub: str | None = None
    root: Path = Path("validator")
    funding: Mapping[str, float] = field(default_factory=lambda: {PUBLIC: 1.0})
    schedule: Path | None = None
    competition: int | str | None = None
    sync_block: int | None = None
    clock: Clock = Clock()
    limits: SelectionLimits = SelectionLimits()
    figures: Figures = Figures()
    device: str = "auto"
    executor: str = "local"
    workers: int = 0
    control: Path | None = None
    worker_network: Network = "isolated"
    wandb: str = "offline"
    wandb_project: str = "finetuning-validators"
    runs_url: str | None = None
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _choose("device", self.device, ("auto", "cpu", "cuda"))
        _choose("worker_network", self.worker_network, NETWORKS)
        _choose("wandb", self.wandb, ("offline", "online", "off"))
        if self.workers < 0:
            raise ConfigError(f"workers is {self.workers}; expected 0 (choose) or more")
        if not 0 <= self.netuid < 1 << 16:
            raise ConfigError(f"netuid is {self.netuid}; expected 0 to 65535")

    @classmethod
    def of(cls, **parameters: Any) -> Settings:
        """Settings from notebook parameters: plain values, "" for None, `genesis` and `cadence` for the clock.

        Raises ConfigError naming the parameter, what it got and what was expected.
        """
        from sn37.competitions.tables import fill

        optional = {item.name for item in fields(cls) if item.default is None}
        if parameters.get("root") == "":
            raise ConfigError("parameters: root is empty; expected a folder for records and caches")
        given = {name: value for name, value in parameters.items() if not (value == "" and name in optional)}
        beat: dict[str, Any] = {name: given.pop(name) for name in ("genesis", "cadence") if name in given}
        parts: dict[str, Any] = {
            "clock": fill(Clock, beat, "parameters"),
            "limits": fill(SelectionLimits, given.pop("limits", {}), "parameter limits"),
            "figures": fill(Figures, given.pop("figures", {}), "parameter figures"),
        }
        settings = fill(cls, given, "parameters")
        for name in ("root", "control", "schedule"):
            path: Path | None = getattr(settings, name)
            parts[name] = None if path is None else path.expanduser().absolute()
        own = settings.tasks
        parts["tasks"] = tuple(str(Path(name).absolute()) if name.endswith(".py") else name for name in own)
        return replace(settings, **parts)


def _choose(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
