"""`sn37 miner explain`: what became of a submission in an epoch, and why, from records alone."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["explain"]


def explain(
    miner: Annotated[str, typer.Argument(metavar="UID|HOTKEY", help="A uid, a hotkey, or the beginning of one.")],
    epoch: Annotated[
        int | None, typer.Option(help="The epoch's sync block; the newest with a submission of the miner without it.")
    ] = None,
    records: Annotated[
        str, typer.Option(help="A validator's folder, its `records`, or hf://user/dataset where it publishes them.")
    ] = "validator",
    wandb: Annotated[
        str | None, typer.Option(metavar="RUN", help="A validator's wandb run, entity/project/run, or a .wandb file.")
    ] = None,
) -> None:
    """Why a submission lost, or won: verdict, reign, tasks, samples, chance, epsilon, copies, and its timeline."""
    from sn37.analysis import explain as explained
    from sn37.data import open_records

    source = records if wandb is None else wandb if wandb.endswith(".wandb") else f"wandb://{wandb}"
    typer.echo(str(explained(open_records(source), miner, epoch)))
