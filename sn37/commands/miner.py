"""`sn37 miner`: what a miner does, from a base model to a published one, and why it lost."""

from __future__ import annotations

import typer

from sn37.commands import explain, train

__all__ = ["app"]

app = typer.Typer(help="Finetune a model for a competition; explain why one lost.", no_args_is_help=True)
app.command("train")(train.train)
app.command("explain")(explain.explain)
