"""`sn37 miner`: what a miner does, from a base model to a published one, and why it lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sn37.clock import duration
from sn37.commands import explain, train
from sn37.commands.competitions import HubAddress, Tasks, named_competition
from sn37.errors import ConfigError

if TYPE_CHECKING:
    from sn37.competition import Competition
    from sn37.evaluation.local import Data
    from sn37.records.epochs import Epoch

__all__ = ["app"]

app = typer.Typer(help="Finetune a model, see whether it wins, publish it, explain why it lost.", no_args_is_help=True)
app.command("train")(train.train)
app.command("explain")(explain.explain)

Model = Annotated[str, typer.Argument(help="A model's folder, or user/repo@<full commit> on the hub.")]
Name = Annotated[
    str, typer.Option("--competition", "-c", help="A public competition's name, a competition file, or repo@commit.")
]
Network = Annotated[str, typer.Option(help="The chain: finney, test, ws://..., or an embedded one.")]
Netuid = Annotated[int, typer.Option(min=0, help="This subnet's number there.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


@app.command()
def check(model: Model, competition: Name, hub: HubAddress = None, tasks: Tasks = None) -> None:
    """Whether a validator would take a model: every reason against it, and what to do about each.

    The exit code is 1 where one would not.
    """
    from sn37 import miner

    found = miner.check(model, named_competition(competition, hub=hub, tasks=tasks), _data(hub))
    typer.echo(str(found))
    if not found:
        raise typer.Exit(1)


@app.command()
def score(
    model: Model,
    competition: Name,
    against: Annotated[
        str, typer.Option(help="`leader` (fetched from the hub), or the folder of a recorded epoch.")
    ] = "leader",
    sync_block: Annotated[
        int | None, typer.Option(min=0, help="Whose samples are drawn; the newest one's without it.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Samples of another seed instead.")] = None,
    network: Network = "finney",
    netuid: Netuid = 37,
    device: Device = "auto",
    hub: HubAddress = None,
    tasks: Tasks = None,
) -> None:
    """Whether a model would win: a validator's own evaluation, beside the model that reigns.

    Says what it would need today, in a day and in a week, how sure that is, and when it could be picked up. The exit
    code is 1 where it would not win at its first epoch.
    """
    from sn37 import miner
    from sn37.chain import Subnet

    chosen = named_competition(competition, hub=hub, tasks=tasks)
    with Subnet(network, netuid) as subnet:
        verdict = miner.score(
            model,
            chosen,
            subnet,
            against=_epoch(against),
            sync_block=sync_block,
            seed=seed,
            data=_data(hub),
            device=device,
        )
    typer.echo(str(verdict))
    if not verdict:
        raise typer.Exit(1)


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="The model's folder.")],
    repo: Annotated[str, typer.Option(help="user/name on the hub: not there yet, or private.")],
    competition: Name,
    wallet: Annotated[str, typer.Option(help="The wallet's name.")] = "default",
    hotkey: Annotated[str, typer.Option(help="The name of its hotkey.")] = "default",
    wallet_path: Annotated[Path, typer.Option(help="Where wallets lie.")] = Path("~/.bittensor/wallets"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Publish what would not win, without scoring it.")] = False,
    network: Network = "finney",
    netuid: Netuid = 37,
    device: Device = "auto",
    hub: HubAddress = None,
    tasks: Tasks = None,
) -> None:
    """Publish a model as the submission of a wallet: upload, private; hash; commit; open.

    Run again after whatever stops it: what is done already is found done. The hub's token comes from HF_TOKEN.
    Refuses a model that would not be taken or would not win, unless forced.
    """
    from sn37 import miner
    from sn37.chain import Subnet, open_wallet

    chosen = named_competition(competition, hub=hub, tasks=tasks)
    data = _data(hub)
    with Subnet(network, netuid, wallet=open_wallet(wallet, hotkey, wallet_path.expanduser())) as subnet:
        _check_scheduled(chosen, subnet.head())
        plan = miner.plan(folder, repo, chosen, data.hub(), subnet)
        typer.echo(str(plan))
        plan.checked.raise_fault()
        if not force and not plan.committed:
            verdict = miner.score(folder, chosen, subnet, data=data, device=device)
            typer.echo(str(verdict))
            if not verdict:
                raise ConfigError("it would not win, so nothing is published; publish it all the same with --force")
        if dry_run:
            typer.echo("dry run: nothing was changed")
            return
        if plan.wait_blocks and not plan.committed:
            raise ConfigError(
                f"the chain takes this hotkey's next commitment from block {plan.possible_from:,} on, in "
                f"{plan.wait_blocks} blocks ({duration(plan.wait_blocks)}); run it again then"
            )
        done = miner.publish(folder, repo, chosen, data.hub(), subnet, on_step=lambda step: typer.echo(f"  {step}"))
    typer.echo(f"published: {done}")


def _data(hub: str | None) -> Data:
    from sn37.evaluation.local import Data

    return Data(hub, os.environ.get("HF_TOKEN"))


def _epoch(against: str) -> Epoch | None:
    """The recorded epoch of that name; None for the leader."""
    from sn37.records.epochs import Epoch

    if against == "leader":
        return None
    if not (Path(against) / "decision.json").is_file():
        raise ConfigError(f"--against {against}: expected `leader`, or the folder of a decided epoch")
    return Epoch(Path(against).absolute())


def _check_scheduled(competition: Competition, block: int) -> None:
    """Raise ConfigError where a public competition does not run: nobody would evaluate the model."""
    from sn37.competitions import public_competitions, public_schedule

    running = {share.competition.id for share in public_schedule().at(block)}
    public = {one.id: one.name for one in public_competitions()}
    if public.get(competition.id) == competition.name and competition.id not in running:
        names = ", ".join(public[id] for id in sorted(running))
        raise ConfigError(f"{competition.name} is not scheduled at block {block:,}; running are {names}")
