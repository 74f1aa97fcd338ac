"""`sn37 records`, `sn37 replay`, `sn37 compare`: what an epoch left, evaluated again, and beside another's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sn37.errors import ConfigError

if TYPE_CHECKING:
    from sn37.records.epochs import Epoch

__all__ = ["compare", "records", "replay"]

_SOURCE = typer.Argument(
    help="A validator's folder, its `records`, one epoch's folder; or where it publishes them: hf://user/dataset, "
    "wandb://entity/project/run, a .wandb file."
)


def records(
    folder: Annotated[str, _SOURCE] = "validator",
    verify: Annotated[
        bool, typer.Option("--verify", help="Work digests, scores and decisions out again and compare them.")
    ] = False,
) -> None:
    """List the epochs of a validator: what was decided, whether it is on the chain, how much disk it takes.

    With --verify the exit code is 1 where a record does not agree with itself.
    """
    from rich.console import Console
    from rich.table import Table

    from sn37.files import size_bytes
    from sn37.records.decision import Publication
    from sn37.validator.scores import mistakes_of

    found = _epochs(folder)
    listed = Table("competition", "sync block", "models", "winner", "loss", "on the chain", "size")
    wrong = []
    for epoch in found:
        decision, published = epoch.decision, epoch.read(Publication)
        best, block = decision.best, published.block if published else None
        listed.add_row(
            f"{epoch.competition_id} {epoch.manifest.competition.name}",
            f"{epoch.sync_block}",
            f"{len(decision.scores)}",
            f"uid {best.uid}" if best else "nobody",
            f"{best.score:.4f}" if best and best.score is not None else "-",
            f"block {block}" if block else "no",
            _size(size_bytes(epoch.folder)),
        )
        if verify:
            wrong += [f"{epoch.folder}: {mistake}" for mistake in mistakes_of(epoch)]
    Console(highlight=False).print(listed)
    total = sum(size_bytes(epoch.folder) for epoch in found)
    pruned = sum(not epoch.keeps_samples for epoch in found)
    typer.echo(
        f"{len(found)} epoch{'' if len(found) == 1 else 's'}, {_size(total)}"
        + (f"; samples pruned of {pruned}" if pruned else "")
        + (f"; {len(wrong)} mistakes" if verify else "")
    )
    for mistake in wrong:
        typer.echo(mistake)
    if wrong:
        raise typer.Exit(1)


def replay(
    epoch: Annotated[Path, typer.Argument(help="The folder of a decided epoch, such as validator/records/4/5200691.")],
    out: Annotated[Path, typer.Option(help="Where the replay's own records lie.")] = Path("runs/replay"),
    recorded_samples: Annotated[
        bool, typer.Option("--recorded-samples", help="Take the samples of the record instead of drawing them again.")
    ] = False,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A setting of this machine, such as device=cpu."),
    ] = None,
) -> None:
    """Evaluate a recorded epoch again, from its manifest, and compare every sample. Publishes nothing.

    Needs the hub, and the chain only where a source takes what trusted validators wrote. Exit code 1 where they differ.
    """
    from sn37 import validator
    from sn37.analysis.comparison import compare as compared
    from sn37.commands.run import split_parameter

    found = _epochs(epoch)
    if len(found) != 1:
        raise ConfigError(f"{epoch} holds {len(found)} epochs; name one: {epoch / '<competition id>' / '<sync block>'}")
    place = out / ("recorded-samples" if recorded_samples else "drawn-again")
    more = dict(split_parameter(text) for text in parameter or [])
    again = validator.replay(found[0], place.absolute(), redraw=not recorded_samples, more=more)
    difference = compared(found[0], again)
    typer.echo(f"{difference}\nreplay    {again.folder}")
    if not difference.equal:
        raise typer.Exit(1)


def compare(first: Annotated[str, _SOURCE], second: Annotated[str, _SOURCE]) -> None:
    """Show where two validators' records of the same epochs differ, and why they may. Exit code 1 where they do."""
    from sn37.analysis.comparison import compare as compared
    from sn37.analysis.comparison import paired

    both, alone = paired(_epochs(first), _epochs(second))
    if not both:
        raise ConfigError(f"{first} and {second} have no epoch in common; expected records of the same sync blocks")
    found = [compared(*pair) for pair in both]
    for difference in found:
        typer.echo(str(difference))
    for epoch in alone:
        typer.echo(f"competition {epoch.competition_id} at {epoch.sync_block}: in {epoch.folder} only")
    if not all(difference.equal for difference in found):
        raise typer.Exit(1)


def _epochs(source: Path | str) -> list[Epoch]:
    """The decided epochs in a validator's folder, in its `records`, in one epoch's own folder, or published."""
    from sn37.data import open_records
    from sn37.records.epochs import Epoch

    folder = Path(source)
    if (folder / "decision.json").is_file():
        return [Epoch(folder.absolute())]
    records = open_records(source)
    if isinstance(records, dict):
        raise ConfigError(f"{source} holds the records of {len(records)} validators; name a run of one of them")
    found = [epoch for id in records.competitions() for epoch in records.sealed(id)]
    if not found:
        raise ConfigError(f"there is no decided epoch in {source}; expected a validator's folder, or an epoch's")
    return found


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
