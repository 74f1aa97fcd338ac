"""A small world: who is who on an embedded chain and hub, and where. Data, and what is read from it.

Everything lies in one folder. `building.build` makes it, `running` starts and stops its hub; nobody in it
validates: that is for whoever plays in it.

    world.json        who is who, and where; no secret
    chain.sqlite      the chain
    hub/              what is published; the tokens of its users, for their owner's eyes only
    wallets/          keys without a password: worthless outside this world
    competition.toml  the competition
    models/           what the miners trained
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter, ValidationError

from sn37.clock import Clock
from sn37.competition import Competition
from sn37.devnet.chain import Chain
from sn37.errors import ConfigError
from sn37.files import write_text
from sn37.html import table

if TYPE_CHECKING:
    from sn37.chain import Metagraph, Subnet
    from sn37.hub import Hub

__all__ = ["COMPETITION", "HOTKEY", "NETUID", "Miner", "Role", "Validator", "World"]

NETUID = 37
HOTKEY = "default"
"""How every wallet's hotkey is called."""

COMPETITION = Path(__file__).with_name("competition.toml")
"""The file of the devnet's competition, as it travels with the package."""

Role = Literal["honest", "copy", "pickle", "mismatch", "late"]


@dataclass(frozen=True)
class Validator:
    """A validator of the world."""

    name: str
    """Also of its wallet."""
    uid: int
    """Its place on the subnet."""
    hotkey: str
    """The address of its hotkey."""
    stake: float
    """In TAO."""


@dataclass(frozen=True)
class Miner:
    """A miner of the world."""

    name: str
    """Also of its wallet, and of its user on the hub."""
    uid: int
    """Its place on the subnet."""
    hotkey: str
    """The address of its hotkey."""
    role: Role
    """What it does: see `miners`."""
    steps: int
    """For how many steps its model was trained."""
    story: str
    """What it did, for people."""

    @property
    def repo(self) -> str:
        """Where it publishes."""
        return f"{self.name}/tiny-llama"


@dataclass(frozen=True)
class _Description:
    """What world.json says."""

    network: str
    netuid: int
    hub: str
    validators: tuple[Validator, ...]
    miners: tuple[Miner, ...]


_DESCRIPTION = TypeAdapter(_Description)


@dataclass(frozen=True)
class World:
    """A world as its folder describes it."""

    root: Path
    """Its folder, an absolute path."""

    validators: tuple[Validator, ...] = ()
    """In the order of their uids, as are the miners."""

    miners: tuple[Miner, ...] = ()
    """Those who take part in the competition."""
    hub_endpoint: str = ""
    """Where its hub answers, or answered when it ran last."""
    netuid: int = NETUID
    """The subnet's number."""

    @classmethod
    def read(cls, root: Path) -> World:
        """The world in that folder. Raises ConfigError where there is no whole one."""
        root = Path(root).absolute()
        file = root / "world.json"
        if not file.is_file():
            raise ConfigError(f"there is no world in {root}; make one with `sn37 devnet up --root {root}`")
        try:
            found = _DESCRIPTION.validate_json(file.read_bytes())
        except ValidationError as error:
            detail = error.errors()[0]
            where = ".".join(map(str, detail["loc"]))
            raise ConfigError(
                f"{file} is damaged ({where}: {detail['msg']}); remove {root} and make the world anew"
            ) from None
        return cls(root, found.validators, found.miners, found.hub, found.netuid)

    @staticmethod
    def exists(root: Path) -> bool:
        """Whether there is a whole world in that folder."""
        return (Path(root) / "world.json").is_file()

    def write(self) -> None:
        """Write world.json; with it the world is whole."""
        described = _Description(self.network, self.netuid, self.hub_endpoint, self.validators, self.miners)
        write_text(self.root / "world.json", json.dumps(asdict(described), indent=1) + "\n")

    def __repr__(self) -> str:
        return f"world in {self.root}: {len(self.validators)} validators, {len(self.miners)} miners"

    def _repr_html_(self) -> str:
        validators = [(v.uid, v.name, f"validates with a stake of {v.stake:,.0f} TAO") for v in self.validators]
        return table(("uid", "who", "what it does"), [*validators, *((m.uid, m.name, m.story) for m in self.miners)])

    # Its parts ------------------------------------------------------------------------------------

    @cached_property
    def chain(self) -> Chain:
        """The embedded chain."""
        return Chain.open(self.root / "chain.sqlite")

    @cached_property
    def competition(self) -> Competition:
        """The competition of its miners."""
        from sn37.competitions import read_competition

        return read_competition(self.root / "competition.toml")

    @property
    def network(self) -> str:
        """What clients take as the network."""
        return self.chain.url

    @property
    def wallets(self) -> Path:
        """The folder of the wallets; every participant's is called by its name, its hotkey `default`."""
        return self.root / "wallets"

    def subnet(self, name: str | None = None) -> Subnet:
        """The subnet through the SDK, with a participant's wallet where one is named."""
        from sn37.chain import Subnet, open_wallet

        return Subnet(self.network, self.netuid, wallet=name and open_wallet(name, HOTKEY, self.wallets))

    def hub(self, name: str | None = None) -> Hub:
        """The hub through its clients, with a participant's token where one is named."""
        from sn37.hub import Hub

        token = None if name is None else self.token(name)
        return Hub(self.hub_endpoint, token, cache=self.root / "cache")

    def token(self, name: str) -> str:
        """A participant's token of the hub."""
        tokens: dict[str, str] = json.loads((self.root / "hub" / "tokens.json").read_text(encoding="utf-8"))
        found = next((token for token, user in tokens.items() if user == name), None)
        if found is None:
            raise ConfigError(f"{name!r} has no token of this hub; expected one of {', '.join(tokens.values())}")
        return found

    def close(self) -> None:
        """Let go of the chain's file; a later use opens it again."""
        self.chain.close()

    # Time -----------------------------------------------------------------------------------------

    @property
    def clock(self) -> Clock:
        """The epochs' cadence, which is the live subnet's."""
        return Clock()

    @property
    def sync_block(self) -> int:
        """The newest sync block."""
        return self.clock.sync_block(self.chain.head())

    def next_epoch(self) -> int:
        """Let blocks pass until the next sync block; returns it."""
        return self.chain.advance_to(self.clock.next_sync_block(self.chain.head()))

    def advance_to_consensus(self) -> int:
        """Let blocks pass until the subnet's next consensus step; returns its block."""
        return self.chain.advance_to(self.chain.next_step(self.netuid))

    def metagraph(self) -> Metagraph:
        """The subnet's metagraph at the head."""
        with self.subnet() as subnet:
            return subnet.metagraph()

    # For validators -------------------------------------------------------------------------------

    def parameters(self, validator: Validator) -> dict[str, object]:
        """What the notebook of a validator's epoch has to know of this world."""
        return {
            "network": self.network,
            "netuid": self.netuid,
            "wallet": validator.name,
            "hotkey": HOTKEY,
            "funding": {str(self.root / "competition.toml"): 1.0},
            "device": "cpu",
            "more": {
                "hub": self.hub_endpoint,
                "wallet_path": str(self.wallets),
                "control": str(self.root / "control"),
                # This world's models are its own: they are played with on machines without network namespaces too.
                "worker_network": "isolation not required",
            },
        }

    def write_pipeline(self, validator: Validator, home: Path) -> Path:
        """A pipeline file for this validator in its folder `home`; records go to `home/validator`."""
        return write_pipeline(home, self.parameters(validator))


def write_pipeline(home: Path, parameters: dict[str, object]) -> Path:
    """A pipeline file of epochs with these parameters in the folder `home`; records go to `home/validator`."""
    import yaml

    records = str(home.absolute() / "validator")
    pipeline = {
        "name": "validator",
        "notebook": "validator_epoch.ipynb",
        "cadence": "sync",
        "refresh_blocks": 300,
        "out": records,
        "parameters": {**parameters, "root": records},
    }
    path = home / "pipeline.yaml"
    write_text(path, yaml.safe_dump(pipeline, sort_keys=False))
    return path
