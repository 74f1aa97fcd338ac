"""`sn37 run` and `sn37 init`: pipelines, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from sn37.errors import ConfigError
from sn37.files import Kind

__all__ = ["blocks_of", "init", "run", "split_parameter"]

_KINDS: tuple[Kind, ...] = ("notebooks", "pipelines")


def run(
    pipeline: Annotated[Path, typer.Argument(help="A pipeline file, such as pipelines/validator.yaml.")],
    forever: Annotated[
        bool,
        typer.Option("--forever", help="Keep running at its cadence until interrupted, faults or not."),
    ] = False,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            metavar="NAME=VALUE",
            help="Set a parameter of the notebook, or one entry of a dictionary (more.wandb=off); JSON, or else text. "
            "May be repeated.",
        ),
    ] = None,
) -> None:
    """Run a pipeline's notebook once, or forever at its cadence.

    The executed notebook and its report join the epoch's record, or lie in the pipeline's `out`.

    Relative paths mean the folder this is run in.
    """
    from sn37.pipeline import read_pipeline, run_forever, run_once

    chosen = read_pipeline(pipeline, dict(split_parameter(text) for text in parameter or []))
    if forever:
        run_forever(chosen, *blocks_of(chosen.parameters), typer.echo)
        return
    done = run_once(chosen)
    typer.echo(f"{done.result.get('summary', 'done')}\nnotebook  {done.notebook}\nreport    {done.report}")


def blocks_of(parameters: Mapping[str, object]) -> tuple[Callable[[], int], Callable[[int], int]]:
    """How to ask for the chain's newest block, and for a block's sync block."""
    from sn37.chain import Subnet
    from sn37.validator import Settings

    known = ("network", "netuid", "genesis", "cadence")
    more = parameters.get("more")
    given = {**parameters, **(more if isinstance(more, Mapping) else {})}
    settings = Settings.of(**{name: value for name, value in given.items() if name in known})
    return Subnet(settings.network, settings.netuid).head, settings.clock.sync_block


def split_parameter(text: str) -> tuple[str, object]:
    name, sign, value = text.partition("=")
    if not sign or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"-p {text!r}: expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def init(
    folder: Annotated[Path, typer.Argument(help="Where to put them.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Write the shipped notebooks and pipelines into a folder, to change and run them."""
    from sn37.files import shipped

    targets = {
        folder / kind / source.name: source
        for kind in _KINDS
        for source in sorted(shipped(kind).iterdir())
        if source.suffix in (".ipynb", ".yaml", ".service")
    }
    present = [str(target) for target in targets if target.exists()]
    if present and not force:
        raise ConfigError(f"{', '.join(present)} exist already; choose another folder, or overwrite with --force")
    for target, source in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        typer.echo(f"wrote {target}")
