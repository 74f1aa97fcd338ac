"""`sn37 miner train`: a baseline that finetunes a model for a competition."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.models import OptionInfo

from sn37.commands.competitions import HubAddress, Tasks, named_competition

__all__ = ["train"]


def _option(text: str, panel: str, least: int | None = None, metavar: str | None = None) -> OptionInfo:
    option: OptionInfo = typer.Option(help=text, rich_help_panel=panel, min=least, metavar=metavar)
    return option


_HOW, _MEMORY, _WHERE = "How it trains", "What fits into memory", "Where things are"

Start = Annotated[
    str,
    typer.Argument(
        help="The model to start from: a folder, user/repo or user/repo@commit, `leader` (of the competition), or "
        "`sn9` (the best pre-trained model of subnet 9)."
    ),
]
Name = Annotated[
    str, typer.Option("--competition", "-c", help="A public competition's name, a competition file, or repo@commit.")
]
Out = Annotated[Path, typer.Option(help="The folder of this training; run again with it, the training goes on.")]
Steps = Annotated[int, _option("Optimizer steps at most.", _HOW, 1)]
Rate = Annotated[float | None, _option("At its highest; 1e-5 without it, with LoRA 2e-4.", _HOW)]
Draws = Annotated[int, _option("How many epochs' samples are learnt from.", _HOW, 1)]
Every = Annotated[int, _option("Steps between two scores and checkpoints.", _HOW, 1)]
Patience = Annotated[int, _option("Stop after so many scores no better than the best.", _HOW, 1)]
Seed = Annotated[int, _option("Decides samples, order, dropout, adapters.", _HOW)]
Rank = Annotated[int, _option("Train adapters of this rank; 0: all weights.", _MEMORY, 0, "RANK")]
Tokens = Annotated[int, _option("Tokens of one batch at most.", _MEMORY, 1)]
Accumulation = Annotated[int, _option("Batches of one step.", _MEMORY, 1)]
Checkpointing = Annotated[bool, _option("Less memory, a third more time.", _MEMORY)]
Weights = Annotated[
    Literal["auto", "bfloat16", "float32"],
    _option("What they are trained in; auto: float32, with LoRA as published.", _MEMORY),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], _option("Where to compute.", _MEMORY)]
Network = Annotated[str, _option("The chain, for leader and sn9.", _WHERE)]
Netuid = Annotated[int, _option("This subnet's number there.", _WHERE, 0)]


def train(
    start: Start,
    competition: Name,
    out: Out = Path("training"),
    steps: Steps = 500,
    learning_rate: Rate = None,
    draws: Draws = 16,
    evaluate_every: Every = 50,
    patience: Patience = 3,
    seed: Seed = 0,
    lora: Rank = 0,
    batch_tokens: Tokens = 8_192,
    accumulation: Accumulation = 4,
    activation_checkpointing: Checkpointing = False,
    weights: Weights = "auto",
    device: Device = "auto",
    network: Network = "finney",
    netuid: Netuid = 37,
    hub: HubAddress = None,
    tasks: Tasks = None,
) -> None:
    """Finetune a model on a competition's own sources, and keep the best by its own score.

    It learns replies only, from samples drawn with seeds that no validator ever has, and is scored on others by the
    validator's own engine. The best model so far lies in OUT/model at any time, as it would be published.
    """
    from sn37.chain import Subnet
    from sn37.evaluation.local import Data
    from sn37.miner import Hyperparameters
    from sn37.miner import train as finetune
    from sn37.miner.starts import find_start

    chosen = named_competition(competition, hub=hub, tasks=tasks)
    hyperparameters = Hyperparameters(
        steps=steps,
        learning_rate=learning_rate,
        batch_tokens=batch_tokens,
        accumulation=accumulation,
        draws=draws,
        evaluate_every=evaluate_every,
        patience=patience,
        lora_rank=lora,
        activation_checkpointing=activation_checkpointing,
        weights=weights,
        seed=seed,
    )
    with Subnet(network, netuid) as subnet:
        data = Data(hub, os.environ.get("HF_TOKEN"), trusted=subnet.trusted)
        found = find_start(start, out, chosen, subnet, data.hub())
        typer.echo(f"{chosen.name}: training from {found}")
        trained = finetune(found.model, chosen, out, hyperparameters=hyperparameters, data=data, device=device)
    figure = out / "training.png"
    trained.history.plot().savefig(figure)
    typer.echo(f"{trained}\nfigure  {figure}")
