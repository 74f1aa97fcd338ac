"""A small world: an embedded chain and hub, two validators, seven miners with models trained on the spot.

Everything lies in one folder. `World.create` builds it within half a minute, `World.open` comes back to
it after a stop, a kill or a reboot. Nobody in it validates: that is for whoever plays in it.

    world.json        who is who, and where; no secret
    chain.sqlite      the chain
    hub/              what is published; the tokens of its users, for their owner's eyes only
    wallets/          keys without a password: worthless outside this world
    competition.toml  the competition
    models/ control/  what the miners trained; the validators' known-good models
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sn37.clock import Clock
from sn37.competition import Competition
from sn37.devnet.chain import Chain
from sn37.devnet.hub_process import HubProcess
from sn37.devnet.population import Miner, Validator
from sn37.devnet.room import room_in
from sn37.errors import ConfigError

if TYPE_CHECKING:
    from sn37.chain import Metagraph, Subnet
    from sn37.hub import Hub

__all__ = ["COMPETITION", "HOTKEY", "NETUID", "World", "world_of"]

NETUID = 37
HOTKEY = "default"
"""How every wallet's hotkey is called."""

COMPETITION = Path(__file__).with_name("competition.toml")
"""The file of the devnet's competition, as it travels with the package."""


@dataclass
class World:
    """A world that runs. As a context manager it stops its hub at the end."""

    root: Path
    chain: Chain
    competition: Competition
    validators: tuple[Validator, ...]
    miners: tuple[Miner, ...]
    endpoint: str = ""
    netuid: int = NETUID
    clock: Clock = Clock()
    KIND: ClassVar[str] = "one"
    NETUIDS: ClassVar[tuple[int, ...]] = (NETUID,)
    hub_process: HubProcess = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.hub_process = HubProcess(self.root / "hub", self.root / "chain.sqlite")

    # Making and opening ---------------------------------------------------------------------------

    @classmethod
    def create(cls, root: Path, *, port: int = 0, tell: Callable[[str], None] = lambda text: None) -> Self:
        """Build a world in an empty folder, or anew where an earlier attempt was cut off.

        port: of the hub, 0 for any free one; tell: called with what is being done. Blocks pass on command.
        Raises ConfigError where something else lies there.
        """
        from sn37.devnet.founding import START_BLOCK

        root = Path(root).absolute()
        with room_in(root):
            cls._write_competitions(root)
            chain = Chain.create(root / "chain.sqlite", start_block=START_BLOCK, netuids=cls.NETUIDS)
            world = cls(root, chain, _competition(root), (), ())
            try:
                world._found(port, tell)
            except BaseException:
                world.stop_hub()
                world.close()
                raise
            return world

    @classmethod
    def _write_competitions(cls, root: Path) -> None:
        shutil.copyfile(COMPETITION, root / "competition.toml")

    def _found(self, port: int, tell: Callable[[str], None]) -> None:
        from sn37.devnet.founding import found

        found(self, port, tell)

    def _facts(self) -> dict[str, Any]:
        """What world.json says besides; `_remember` takes it back."""
        return {}

    def _remember(self, facts: Mapping[str, Any]) -> None: ...

    @classmethod
    def open(cls, root: Path, *, port: int = 0) -> World:
        """The world in that folder, its hub started again where it does not run.

        port: 0 for the one it had, or any other when that one is taken. Raises ConfigError where there is no
        whole world.
        """
        root = Path(root).absolute()
        world = cls.look(root)
        world.start_hub(port)
        return world

    @classmethod
    def look(cls, root: Path) -> World:
        """The world in that folder, left as it is: nothing is started."""
        root = Path(root).absolute()
        file = root / "world.json"
        if not file.is_file():
            raise ConfigError(f"there is no world in {root}; make one with `sn37 devnet up --root {root}`")
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            people = [Validator(**entry) for entry in data["validators"]], [Miner(**entry) for entry in data["miners"]]
            endpoint, netuid = str(data["hub"]), int(data["netuid"])
            kind = world_of(data["competitions"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{file} is damaged ({error}); remove {root} and make the world anew") from None
        chain = Chain.open(root / "chain.sqlite")
        world = kind(root, chain, _competition(root), tuple(people[0]), tuple(people[1]), endpoint, netuid)
        world._remember(data)
        return world

    @staticmethod
    def exists(root: Path) -> bool:
        """Whether there is a whole world in that folder."""
        return (Path(root) / "world.json").is_file()

    def describe(self) -> None:
        """Write world.json."""
        data = {
            "version": 1,
            "network": self.network,
            "netuid": self.netuid,
            "hub": self.endpoint,
            "competitions": self.KIND,
            "validators": [asdict(validator) for validator in self.validators],
            "miners": [asdict(miner) for miner in self.miners],
            **self._facts(),
        }
        _write(self.root / "world.json", json.dumps(data, indent=1) + "\n")

    # Its parts ------------------------------------------------------------------------------------

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
        return Hub(self.endpoint, token, cache=self.root / "cache")

    def token(self, name: str) -> str:
        """A participant's token of the hub."""
        tokens: dict[str, str] = json.loads((self.root / "hub" / "tokens.json").read_text(encoding="utf-8"))
        found = next((token for token, user in tokens.items() if user == name), None)
        if found is None:
            raise ConfigError(f"{name!r} has no token of this hub; expected one of {', '.join(tokens.values())}")
        return found

    # Time -----------------------------------------------------------------------------------------

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

    @property
    def environment(self) -> dict[str, str]:
        """What a validator's process needs in its environment, beside the parameters; nothing secret."""
        return {}

    def parameters(self, validator: Validator) -> dict[str, Any]:
        """What the notebook of a validator's epoch has to know of this world."""
        return {
            "network": self.network,
            "netuid": self.netuid,
            "wallet": validator.name,
            "hotkey": HOTKEY,
            "funding": {str(self.root / "competition.toml"): 1.0},
            "device": "cpu",
            "more": {
                "hub": self.endpoint,
                "wallet_path": str(self.wallets),
                "control": str(self.root / "control"),
                # This world's models are its own: they are played with on machines without network namespaces too.
                "worker_network": "isolation not required",
            },
        }

    def write_pipeline(self, validator: Validator, home: Path) -> Path:
        """A pipeline file for this validator in its folder `home`; records go to `home/validator`."""
        import yaml

        records = str(home.absolute() / "validator")
        pipeline = {
            "name": "validator",
            "notebook": "validator_epoch.ipynb",
            "cadence": "sync",
            "refresh_blocks": 300,
            "out": records,
            "parameters": {**self.parameters(validator), "root": records},
        }
        home.mkdir(parents=True, exist_ok=True)
        return _write(home / "pipeline.yaml", yaml.safe_dump(pipeline, sort_keys=False))

    # Starting and stopping ------------------------------------------------------------------------

    def start_hub(self, port: int = 0) -> str:
        """Start the hub unless it runs; its address. port: 0 for the one it had, or else any free one."""
        self.endpoint = self.hub_process.start_again(self.endpoint, port)
        if World.exists(self.root):
            self.describe()
        return self.endpoint

    def stop_hub(self) -> bool:
        """Stop the hub; whether it ran."""
        return self.hub_process.stop()

    def close(self) -> None:
        """Let go of the chain's file; the hub runs on."""
        self.chain.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_hub()
        self.close()


def world_of(competitions: str) -> type[World]:
    """The kind of world with `one` competition, or with `all`. Raises ConfigError."""
    from sn37.devnet.everything import Everything

    kinds = {kind.KIND: kind for kind in (World, Everything)}
    if competitions not in kinds:
        raise ConfigError(f"competitions is {competitions!r}; expected one of {', '.join(kinds)}")
    return kinds[competitions]


def _competition(root: Path) -> Competition:
    from sn37.competitions import read_competition

    return read_competition(root / "competition.toml")


def _write(path: Path, text: str) -> Path:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    return aside.replace(path)
