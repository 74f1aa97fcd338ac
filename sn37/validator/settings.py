"""A validator's settings: what the parameters cell of its notebook says, checked when made.

No secret is among them: a hub token comes from the environment variable HF_TOKEN, an account to read wandb
runs with from WANDB_API_KEY, a wallet by its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sn37.clock import Clock
from sn37.documents import parse
from sn37.errors import ConfigError
from sn37.files import started_from
from sn37.protocol import Figures, SelectionLimits
from sn37.schedule import PUBLIC
from sn37.workers.sandbox import NETWORKS, Network

__all__ = ["PARAMETERS", "Settings"]


PARAMETERS: tuple[str, ...] = (
    *("network", "netuid", "wallet", "hotkey", "root"),
    *("funding", "competition", "sync_block", "device", "publish"),
)
"""The settings that have a line of their own in the notebook's parameters cell; all others go into its `more`."""

_NESTED = {"limits": SelectionLimits, "figures": Figures}


@dataclass(frozen=True)
class Settings:
    """Who validates, where, and what.

    >>> Settings.of(network="test", device="cpu", more={"wandb": "off", "figures": {"alpha": 0.6}}).wandb
    'off'
    """

    network: str = "finney"
    """A network's name or URL."""
    netuid: int = 37
    wallet: str = "default"
    """The wallet's name; its keys never enter a notebook."""
    hotkey: str = "default"
    """The name of the wallet's hotkey."""
    wallet_path: str = "~/.bittensor/wallets"
    hub: str | None = None
    """The hub's address; None for the public one."""
    root: Path = Path("validator")
    """The folder of the records and caches."""
    funding: Mapping[str, float] = field(default_factory=lambda: {PUBLIC: 1.0})
    """Shares over `public`, public names, competition files and `repo@commit`."""
    schedule: Path | None = None
    """A subnet's own schedule file; None for the public one."""
    competition: int | str | None = None
    """A name or id; None to take turns by sync block."""
    sync_block: int | None = None
    """The epoch's sync block; None for the newest."""
    publish: bool = True
    """Whether the chain and wandb learn of the decision; without that no wallet is needed."""
    clock: Clock = Clock()
    limits: SelectionLimits = SelectionLimits()
    """Who is evaluated, and how many."""
    figures: Figures = Figures()
    """The shared figures of the protocol, section 1."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    executor: str = "local"
    """`local`, `ray` or `ray://ADDRESS`."""
    workers: int = 0
    """Processes at once; 0 to choose."""
    control: Path | None = None
    """A folder for known-good models that decide who is at fault when a worker dies; None: in the caches."""
    worker_network: Network = "isolated"
    """`isolated` refuses to evaluate where workers could reach the network; `isolation not required` accepts that."""
    wandb: str = "offline"
    """The mirror of the epochs: `offline`, `online` or `off`."""
    wandb_project: str = "finetuning-validators"
    runs_url: str | None = None
    """The wandb server whose signed runs sources read; None for the one wandb is set up with."""
    tasks: tuple[str, ...] = ()
    """Python files and entry points with sources and methods of this validator's own."""

    def __post_init__(self) -> None:
        _choose("device", self.device, ("auto", "cpu", "cuda"))
        _choose("worker_network", self.worker_network, NETWORKS)
        _choose("wandb", self.wandb, ("offline", "online", "off"))
        if self.workers < 0:
            raise ConfigError(f"workers is {self.workers}; expected 0 (choose) or more")
        if not 0 <= self.netuid < 1 << 16:
            raise ConfigError(f"netuid is {self.netuid}; expected 0 to 65535")

    @classmethod
    def of_notebook(cls, names: Mapping[str, object]) -> Settings:
        """Settings from what a notebook's parameters cell has set: `Settings.of_notebook(globals())`."""
        missing = [name for name in (*PARAMETERS, "more") if name not in names]
        if missing:
            raise ConfigError(f"the parameters cell does not set {', '.join(missing)}; set each, others in `more`")
        return cls.of(**{name: names[name] for name in (*PARAMETERS, "more")})

    @classmethod
    def of(cls, **parameters: Any) -> Settings:
        """Settings from parameters: plain values, "" for None, `genesis` and `cadence` for the clock.

        more: a dictionary of further parameters. Relative paths mean the folder that `started_from` finds. Raises
        ConfigError naming the parameter, what it got and what was expected.
        """
        given = _merged(parameters)
        known = [item.name for item in fields(cls) if item.name != "clock"] + ["genesis", "cadence"]
        for name in sorted(set(given) - set(known)):
            similar = "".join(f"; did you mean {other}?" for other in get_close_matches(name, known, 1))
            raise ConfigError(f"parameters: unknown field {name}{similar}; the known fields are {', '.join(known)}")
        if given.get("root") == "":
            raise ConfigError("parameters: root is empty; expected a folder for records and caches")
        optional = {item.name for item in fields(cls) if item.default is None}
        given = {name: value for name, value in given.items() if not (value == "" and name in optional)}
        beat: dict[str, Any] = {name: given.pop(name) for name in ("genesis", "cadence") if name in given}
        parts: dict[str, Any] = {"clock": parse(Clock, beat, "parameters")}
        for name, kind in _NESTED.items():
            parts[name] = parse(kind, given.pop(name, {}), f"parameter {name}")
        settings = parse(cls, given, "parameters")
        start = started_from()
        for name in ("root", "control", "schedule"):
            path: Path | None = getattr(settings, name)
            parts[name] = None if path is None else start / path.expanduser()
        parts["tasks"] = tuple(str(start / name) if name.endswith(".py") else name for name in settings.tasks)
        return replace(settings, **parts)


def _merged(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with those in `more` beside them."""
    given = {name: value for name, value in parameters.items() if name != "more"}
    more = parameters.get("more", {})
    if not isinstance(more, Mapping):
        raise ConfigError(f"parameter more is {more!r}; expected a dictionary of further parameters")
    twice = sorted(set(given) & set(more))
    if twice:
        raise ConfigError(f"parameter {', '.join(twice)} is set beside `more` and in it; set it once")
    return {**given, **more}


def _choose(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
