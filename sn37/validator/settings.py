"""A validator's settings: what the parameters cell of its notebook says, checked when made.

No secret is among them: a hub token comes from the environment variable HF_TOKEN, an account to read wandb
runs with from WANDB_API_KEY, a wallet by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from sn37.clock import Clock
from sn37.documents import mistakes
from sn37.errors import ConfigError
from sn37.files import started_from
from sn37.protocol import Figures, SelectionLimits
from sn37.registry import suggestion
from sn37.schedule import PUBLIC
from sn37.values import Checked, Rule
from sn37.workers.sandbox import NETWORKS, Network

__all__ = ["PARAMETERS", "Keep", "Settings"]

PARAMETERS: tuple[str, ...] = (
    *("network", "netuid", "wallet", "hotkey", "root"),
    *("funding", "competition", "sync_block", "device", "publish"),
)
"""The settings that have a line of their own in the notebook's parameters cell; all others go into its `more`."""

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Keep(Checked):
    """How long a validator keeps what it can do without, and how much of it; records proper stay for good.

    Days are counted in blocks behind the newest decided epoch.
    """

    epochs: int = 20
    """The newest epochs of each competition, which keep everything at whatever size."""
    notebooks_days: int = 60
    """Executed notebooks and their reports."""
    samples_days: int = 180
    """The samples of decided epochs: without them a prompt is no longer shown beside its reply."""
    runs_days: int = 180
    """wandb's finished offline runs, and the steps they are made of."""
    undecided_days: int = 30
    """Folders of epochs that were never decided."""
    max_bytes: int = 50 << 30
    """All of these together; the oldest go first."""
    models_bytes: int = 100 << 30
    """The cache of fetched models; those used longest ago go first."""
    datasets_bytes: int = 20 << 30
    """The cache of dataset pages; likewise."""

    RULES = (
        *(
            Rule(name, lambda count: count >= 1, "1 or more")
            for name in ("epochs", "max_bytes", "models_bytes", "datasets_bytes")
        ),
        *(
            Rule(name, lambda days: days >= 0, "0 days or more")
            for name in ("notebooks_days", "samples_days", "runs_days", "undecided_days")
        ),
    )


@dataclass(frozen=True)
class Settings(Checked):
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
    wandb_entity: str | None = None
    """Whose project; None for the account's own."""
    publish_records: str | None = None
    """A dataset on the hub, `user/dataset`, to which each epoch's record is uploaded; None for none."""
    keep: Keep = Keep()
    """What stays on the disk, and for how long."""
    runs_url: str | None = None
    """The wandb server whose signed runs sources read; None for the one wandb is set up with."""
    tasks: tuple[str, ...] = ()
    """Python files and entry points with sources and methods of this validator's own."""

    RULES = (
        Rule("netuid", range(1 << 16).__contains__, "0 to 65535"),
        Rule("device", ("auto", "cpu", "cuda").__contains__, "one of auto, cpu, cuda"),
        Rule("workers", lambda number: number >= 0, "0 (choose) or more"),
        Rule("worker_network", NETWORKS.__contains__, f"one of {', '.join(NETWORKS)}"),
        Rule("publish_records", lambda repo: repo is None or _REPO.fullmatch(repo), "a dataset, user/dataset"),
        Rule("wandb", ("offline", "online", "off").__contains__, "one of offline, online, off"),
    )

    @classmethod
    def of_notebook(cls, names: Mapping[str, object]) -> Settings:
        """Settings from what a notebook's parameters cell has set: `Settings.of_notebook(globals())`."""
        missing = [name for name in (*PARAMETERS, "more") if name not in names]
        if missing:
            raise ConfigError(f"the parameters cell does not set {', '.join(missing)}; set each, others in `more`")
        return cls.of(**{name: names[name] for name in (*PARAMETERS, "more")})

    @classmethod
    def of(cls, **parameters: object) -> Settings:
        """Settings from parameters: plain values, "" for None, `genesis` and `cadence` for the clock.

        more: a dictionary of further parameters. Relative paths mean the folder that `started_from` finds. Raises
        ConfigError naming the parameter, what it got and what was expected.
        """
        given = _merged(parameters)
        known = [item.name for item in fields(cls) if item.name != "clock"] + ["genesis", "cadence"]
        optional = {item.name for item in fields(cls) if item.default is None}
        choices = f"the known fields are {', '.join(known)}"
        unknown = sorted(set(given) - set(known))
        found = [f"parameters: unknown field {name}; {choices}{suggestion(name, known)}" for name in unknown]
        if given.get("root") == "":
            found.append("parameters: root is empty; expected a folder for records and caches")
        given = {name: each for name, each in given.items() if name in known and not (each == "" and name in optional)}
        given["clock"] = {name: given.pop(name) for name in ("genesis", "cadence") if name in given}
        settings, wrong = mistakes(cls, given, "parameters")
        if settings is None or found:
            raise ConfigError("\n".join(found + wrong))
        start = started_from()
        return replace(
            settings,
            root=start / settings.root.expanduser(),
            control=settings.control and start / settings.control.expanduser(),
            schedule=settings.schedule and start / settings.schedule.expanduser(),
            tasks=tuple(str(start / name) if name.endswith(".py") else name for name in settings.tasks),
        )


def _merged(parameters: Mapping[str, object]) -> dict[str, object]:
    """The parameters with those in `more` beside them."""
    given = {name: value for name, value in parameters.items() if name != "more"}
    more = parameters.get("more", {})
    if not isinstance(more, Mapping):
        raise ConfigError(f"parameter more is {more!r}; expected a dictionary of further parameters")
    twice = sorted(set(given) & set(more))
    if twice:
        raise ConfigError(f"parameter {', '.join(twice)} is set beside `more` and in it; set it once")
    return {**given, **more}
