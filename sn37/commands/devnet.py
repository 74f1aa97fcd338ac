"""`sn37 devnet`: an embedded chain and hub with a small world in them, to play in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sn37.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sn37.devnet.world import World

__all__ = ["app", "start"]

app = typer.Typer(
    name="devnet",
    help="A whole subnet on this machine: an embedded chain and hub, validators, miners.",
    no_args_is_help=True,
)

_ROOT = typer.Option(Path("out/devnet"), help="The folder of the world.")


@app.command()
def up(
    root: Path = _ROOT,
    port: int = typer.Option(0, min=0, max=65_535, help="The hub's port; 0: the one it had, or any free one."),
    block_time: float | None = typer.Option(
        None, min=0, metavar="SECONDS", help="Let a block pass in so many seconds; 0: only by `advance`."
    ),
) -> None:
    """Start the world, building it where there is none (half a minute); run it again after any stop."""
    console = _console()
    world = start(console, root, port)
    try:
        if block_time is not None:
            world.chain.set_block_time(block_time or None)
        pipelines = [world.write_pipeline(validator, root / validator.name) for validator in world.validators]
        console.print(
            f"  hub      {world.hub_endpoint}\n  network  {world.network}\n  netuid   {world.netuid}", soft_wrap=True
        )
        console.print("a validator's epoch, from any terminal (let blocks pass before the next one):")
        for pipeline in pipelines:
            console.print(f"  sn37 run {pipeline}", soft_wrap=True)
    finally:
        world.close()


@app.command()
def status(root: Path = _ROOT) -> None:
    """Show the blocks, the hub, who committed what, and who gets the incentive."""
    from sn37.devnet.running import hub_of

    console = _console()
    with _described(root) as world:
        head = world.chain.head()
        following = world.clock.next_sync_block(head)
        pace = world.chain.block_time_s
        flow = f"one in {pace:g} s" if pace else "pass by `sn37 devnet advance`"
        console.print(f"  block    {head:,} (blocks {flow})")
        console.print(f"  sync     {world.sync_block:,}, the next at {following:,}, in {following - head} blocks")
        console.print(f"  hub      {hub_of(world.root).endpoint or 'is not running: start it with `sn37 devnet up`'}")
        console.print(f"  network  {world.network}", soft_wrap=True)
        console.print(_miners(world))
        console.print(_validators(world))


@app.command()
def advance(
    blocks: int = typer.Argument(1, min=1, max=1_000_000, help="How many blocks pass."),
    epoch: bool = typer.Option(False, "--epoch", help="As many as there are to the next sync block."),
    root: Path = _ROOT,
) -> None:
    """Let blocks pass at once; consensus steps that are due in them are taken."""
    with _described(root) as world:
        head = world.next_epoch() if epoch else world.chain.advance(blocks)
        _console().print(f"block {head:,}; sync block {world.sync_block:,}")


@app.command()
def miner(name: Annotated[str, typer.Argument(help="A name for it.")], root: Path = _ROOT) -> None:
    """Register a new miner, with a wallet and a token of the hub, and show how to use them."""
    from sn37.devnet.building import add_miner

    with _described(root) as world:
        uid = add_miner(world, name)
        competition = world.root.absolute() / "competition.toml"
        where = f"--network {world.network} --hub {world.hub_endpoint}"
        typer.echo(f"uid {uid}: {name}, in the world {root}\n")
        typer.echo(f"export HF_TOKEN=$(sn37 devnet token {name} --root {root})")
        typer.echo(f"sn37 miner score MODEL -c {competition} {where}")
        wallet = f"--wallet {name} --wallet-path {world.wallets.absolute()}"
        typer.echo(f"sn37 miner publish MODEL --repo {name}/model -c {competition} {wallet} {where}")


@app.command()
def token(name: str, root: Path = _ROOT) -> None:
    """Print a participant's token of the embedded hub."""
    with _described(root) as world:
        typer.echo(world.token(name))


@app.command()
def down(root: Path = _ROOT) -> None:
    """Stop the hub and the blocks; all that happened stays, for the next `up`."""
    from sn37.devnet.running import stop_hub

    with _described(root) as world:
        stopped = stop_hub(world)
        world.chain.set_block_time(None)
        _console().print("the hub is stopped" if stopped else "the hub was not running")


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def start(console: Console, root: Path, port: int = 0) -> World:
    """The world in that folder, running; built where there is none, with its progress on the console."""
    from sn37.devnet.building import open_or_build
    from sn37.devnet.world import World

    if World.exists(root):
        world = open_or_build(root, port=port)
        console.print(f"the world in {root} is up again", soft_wrap=True)
        return world
    with console.status("building a world") as showing:

        def progress(text: str) -> None:
            console.print(f"  {text}")
            showing.update(text)

        return open_or_build(root, port=port, progress=progress)


@contextmanager
def _described(root: Path) -> Iterator[World]:
    """The world in that folder, left as it is: nothing is started."""
    from sn37.devnet.world import World

    with closing(World.read(root)) as world:
        yield world


def _miners(world: World) -> Table:
    from rich.table import Table

    with world.subnet() as subnet:
        submissions = {submission.hotkey: submission for submission in subnet.submissions()}
        metagraph = subnet.metagraph()
    table = Table("uid", "miner", "what it did", "committed", "repo", "incentive", title="miners", title_justify="left")
    for miner in world.miners:
        submission, neuron = submissions.get(miner.hotkey), metagraph.neuron(miner.hotkey)
        table.add_row(
            str(miner.uid),
            miner.name,
            miner.story,
            f"{submission.block:,}" if submission else "-",
            submission.model.repo if submission and submission.model else "-",
            f"{neuron.incentive:.3f}" if neuron else "-",
        )
    return table


def _validators(world: World) -> Table:
    from rich.table import Table

    metagraph = world.metagraph()
    table = Table("uid", "validator", "stake (TAO)", "weights set", "trust", title="validators", title_justify="left")
    for validator in world.validators:
        neuron = metagraph.neuron(validator.hotkey)
        if neuron is None:
            raise ConfigError(f"{validator.name} is not registered any more; make the world anew")
        last = f"{neuron.last_update:,}" if neuron.last_update else "never"
        trust = "-" if neuron.validator_trust is None else f"{neuron.validator_trust:.3f}"
        table.add_row(str(validator.uid), validator.name, f"{neuron.stake:,.0f}", last, trust)
    return table
