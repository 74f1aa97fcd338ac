"""`sn37 run` and `sn37 init`: pipelines, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sn37.errors import ConfigError

__all__ = ["init", "run"]


def run(
    pipeline: Annotated[Path, typer.Argument(help="A pipeline file, such as pipelines/validator.yaml.")],
    forever: Annotated[bool, typer.Option("--forever", help="Keep running at its cadence until interrupted.")] = False,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Set a parameter: JSON, or else plain text."),
    ] = None,
) -> None:
    """Run a pipeline's notebook once, or forever at its cadence."""
    from sn37.pipeline import read_pipeline, run_forever, run_once

    chosen = read_pipeline(pipeline, dict(_split(text) for text in parameter or []))
    if not forever:
        done = run_once(chosen)
        typer.echo(f"{done.result.get('summary', 'done')}\nnotebook  {done.notebook}\nreport    {done.report}")
        return
    from sn37.chain import Subnet
    from sn37.clock import Clock

    values = chosen.parameters
    clock = Clock(values.get("genesis", Clock.genesis), values.get("cadence", Clock.cadence))
    subnet = Subnet(values.get("network", "finney"), values.get("netuid", 37))
    run_forever(chosen, subnet.head, clock.sync_block, typer.echo)


def _split(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
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

    for kind in ("notebooks", "pipelines"):
        for source in sorted(shipped(kind, ".").iterdir()):
            target = folder / kind / source.name
            if not source.is_file():
                continue
            if target.exists() and not force:
                raise ConfigError(f"{target} exists; choose another folder or give --force")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            typer.echo(f"wrote {target}")
