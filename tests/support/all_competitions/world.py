"""What the world of all competitions is, once it is built: the small world's people and places, and what they fund."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wandb_server import API_KEY

from sn37.competition import Competition
from sn37.competitions import funded_schedule, read_schedule
from sn37.devnet.world import Validator, World
from sn37.schedule import PUBLIC, Share

FUNDING = (0.5, 0.3, 0.2)
"""The shares of the public schedule, of the validator's own competition, and of the one on the hub."""


@dataclass(frozen=True)
class AllCompetitions:
    """A world of all competitions, its hub and wandb running."""

    world: World
    """Who is who, and where."""

    runs_url: str
    """Where its wandb answers."""

    lent: str
    """The competition on the hub, as `repo@commit`."""

    @property
    def _schedule(self) -> Path:
        return self.world.root / "competitions" / "schedule.toml"

    @property
    def funding(self) -> dict[str, float]:
        """What its validators fund."""
        items = (PUBLIC, str(self.world.root / "competition.toml"), self.lent)
        return dict(zip(items, FUNDING, strict=True))

    def shares(self) -> tuple[Share, ...]:
        """The competitions and what each gets of the emission."""
        read = self.world.hub().read_file
        schedule = funded_schedule(self.funding, self.world.root, read, read_schedule(self._schedule))
        return schedule.at(self.world.chain.head())

    def funded_as(self, competition: Competition) -> str:
        """The item of the funding that a competition is part of."""
        public, own, lent = self.funding
        if competition.id == self.world.competition.id:
            return own
        scheduled = read_schedule(self._schedule).competition(competition.id, self.world.chain.head())
        return public if scheduled else lent

    @property
    def environment(self) -> dict[str, str]:
        """What a validator's process needs in its environment, beside the parameters; nothing secret."""
        return {"WANDB_API_KEY": API_KEY}

    def parameters(self, validator: Validator) -> dict[str, object]:
        """What the notebook of a validator's epoch has to know of this world."""
        given = self.world.parameters(validator)
        more = {**given["more"], "schedule": str(self._schedule), "runs_url": self.runs_url}
        return {**given, "funding": self.funding, "more": more}
