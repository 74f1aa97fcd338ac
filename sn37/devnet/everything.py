"""A world of all competitions at once: the public ones, scaled down, one of a validator's own, one from the hub.

Beside what every world has, it holds the public datasets in their real schemas, trusted authors on subnets 1, 9 and
18, and what they log to an embedded wandb. All miners are honest: each competition has two whose models differ.

    competition.toml  a validator's own competition
    competitions/     the public ones, and a schedule in which all of them run at once
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sn37.competition import Competition
from sn37.competitions import funded_schedule, read_schedule
from sn37.devnet import authors
from sn37.devnet.population import Validator
from sn37.devnet.scaled import write_schedule
from sn37.devnet.wandb import API_KEY
from sn37.devnet.wandb_process import WandbProcess
from sn37.devnet.world import NETUID, World
from sn37.schedule import PUBLIC, Share

__all__ = ["FUNDING", "Everything"]

OWN_COMPETITION = Path(__file__).with_name("own_competition.toml")

FUNDING = (0.5, 0.3, 0.2)
"""The shares of the public schedule, of the validator's own competition, and of the one on the hub."""


@dataclass
class Everything(World):
    """A world of all competitions, that runs.

    runs_url: where its wandb answers; lent: the competition on the hub, as `repo@commit`.
    """

    KIND: ClassVar[str] = "all"
    NETUIDS: ClassVar[tuple[int, ...]] = (NETUID, *authors.NETUIDS)
    runs_url: str = ""
    lent: str = ""
    wandb_process: WandbProcess = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.wandb_process = WandbProcess(self.root / "wandb", self.wallets, self.root / "chain.sqlite")

    @classmethod
    def _write_competitions(cls, root: Path) -> None:
        shutil.copyfile(OWN_COMPETITION, root / "competition.toml")
        (root / "competitions").mkdir()
        write_schedule(root / "competitions")

    def _found(self, port: int, tell: Callable[[str], None]) -> None:
        from sn37.devnet.founding_everything import found

        found(self, port, tell)

    def _facts(self) -> dict[str, Any]:
        return {"wandb": self.runs_url, "lent": self.lent}

    def _remember(self, facts: Mapping[str, Any]) -> None:
        self.runs_url, self.lent = str(facts.get("wandb", "")), str(facts.get("lent", ""))

    @property
    def schedule(self) -> Path:
        """The file of the schedule in which all public competitions run."""
        return self.root / "competitions" / "schedule.toml"

    @property
    def funding(self) -> dict[str, float]:
        """What its validators fund."""
        items = (PUBLIC, str(self.root / "competition.toml"), self.lent)
        return dict(zip(items, FUNDING, strict=True))

    def shares(self) -> tuple[Share, ...]:
        """The competitions and what each gets of the emission."""
        schedule = funded_schedule(self.funding, self.root, self.hub().read_file, read_schedule(self.schedule))
        return schedule.at(self.chain.head())

    def funded_as(self, competition: Competition) -> str:
        """The item of the funding that a competition is part of."""
        public, own, lent = self.funding
        if competition.id == self.competition.id:
            return own
        scheduled = read_schedule(self.schedule).competition(competition.id, self.chain.head())
        return public if scheduled else lent

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_API_KEY": API_KEY}

    def parameters(self, validator: Validator) -> dict[str, Any]:
        given = super().parameters(validator)
        more = {**given["more"], "schedule": str(self.schedule), "runs_url": self.runs_url}
        return {**given, "funding": self.funding, "more": more}

    def start_hub(self, port: int = 0) -> str:
        """Start hub and wandb unless they run; the hub's address."""
        self.runs_url = self.wandb_process.start_again(self.runs_url)
        return super().start_hub(port)

    def stop_hub(self) -> bool:
        """Stop hub and wandb; whether the hub ran."""
        self.wandb_process.stop()
        return super().stop_hub()
