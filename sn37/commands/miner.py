"""`sn37 miner`: what a miner does, from a base model to a published one."""

from __future__ import annotations

import typer

from sn37.commands import train

__all__ = ["app"]

app = typer.Typer(help="Finetune a model for a competition.", no_args_is_help=True)
app.command("train")(train.train)
