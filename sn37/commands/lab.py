"""`sn37 lab`: JupyterLab beside a small world, with the notebooks pointing at it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from sn37.errors import ConfigError

if TYPE_CHECKING:
    from sn37.devnet.world import World

__all__ = ["lab"]

_FIRST = "notebooks/00_tour.ipynb"


def lab(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="-- ARGUMENTS", help="Passed on to `jupyter lab`.")
    ] = None,
    root: Annotated[Path, typer.Option(help="The folder of the world, the records and the notebooks.")] = Path(
        "out/lab"
    ),
    epochs: Annotated[int, typer.Option(min=0, max=20, help="Decided epochs there are at least.")] = 2,
) -> None:
    """Open the notebooks in JupyterLab, beside a small world that a validator has judged; Ctrl-C stops all of it.

    The first start builds the world and plays its epochs, in about a minute. The notebooks in the folder `notebooks`
    are yours to change: a later start only renews the cell that points at the world.
    """
    from rich.console import Console

    from sn37.commands.devnet import start
    from sn37.devnet.running import running

    console, root = Console(highlight=False), root.absolute()
    try:
        with _stoppable(), running(start(console, root / "world")) as world:
            with console.status("a validator plays its epochs"):
                _play(world, root, epochs)
            _write_notebooks(world, root)
            console.print(f"JupyterLab opens {root / _FIRST}; Ctrl-C stops it, and the world", soft_wrap=True)
            _serve(root, arguments or [])
    except KeyboardInterrupt:
        console.print("stopped; everything is kept for the next start")


@contextmanager
def _stoppable() -> Iterator[None]:
    """A closed terminal, or a polite kill, ends things as Ctrl-C does; also where whoever started this ignores it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _play(world: World, root: Path, epochs: int) -> None:
    """Let the first validator decide epochs until there are so many."""
    from sn37.pipeline import read_pipeline, run_once
    from sn37.records.epochs import Records

    pipeline = read_pipeline(world.write_pipeline(world.validators[0], root))
    decided = Records(root / "validator" / "records").sealed(world.competition.id)
    for _ in range(epochs - len(decided)):
        world.next_epoch()
        run_once(pipeline)


def _write_notebooks(world: World, root: Path) -> None:
    """The shipped notebooks, or what has become of them here, with parameters that point at this world."""
    from sn37.files import shipped
    from sn37.notebook import write_prepared

    parameters = world.parameters(world.validators[0])
    trained = sorted((world.root / "models").iterdir(), key=lambda folder: (len(folder.name), folder.name))
    own = {"design_eval_task": {"models": {folder.name: str(folder) for folder in trained}}}  # fewer steps, weaker
    for source in sorted(shipped("notebooks").glob("*.ipynb")):
        target = root / "notebooks" / source.name
        given = parameters | own.get(source.stem, {})
        write_prepared(target if target.exists() else source, given, target)


def _serve(root: Path, arguments: list[str]) -> None:
    """Run JupyterLab until it ends, or this is interrupted."""
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}"]
    server = subprocess.Popen(
        [*command, f"--LabApp.default_url=/lab/tree/{_FIRST}", *arguments],
        cwd=root,
        # Relative paths in notebooks mean this folder.
        env={**os.environ, "PWD": str(root)},
        stdin=subprocess.DEVNULL,
        # Ctrl-C reaches it through us alone: it would ask whether that is meant.
        start_new_session=True,
    )
    try:
        if code := server.wait():
            raise ConfigError(f"JupyterLab ended with exit code {code}; what it said stands above")
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
