"""`sn37 demo`: the whole subnet on this machine, small and real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sn37.errors import ConfigError, EvaluatorFault

if TYPE_CHECKING:
    from rich.console import Console

    from sn37.competition import Competition
    from sn37.devnet.world import World
    from sn37.records.decision import Decision, Score
    from sn37.records.epochs import Epoch, Records

__all__ = [
    "MARK",
    "demo",
    "empty_folder",
    "records_of",
    "run_pipelines",
    "show_leaderboard",
    "show_miners",
    "timed",
]

MARK = ".sn37-demo"


def demo(
    root: Annotated[Path, typer.Option(help="Where the world and the records are kept.")] = Path("out/demo"),
    epochs: Annotated[int, typer.Option(min=1, max=20, help="Epochs of each validator.")] = 3,
) -> None:
    """Two validators judge seven miners on an embedded chain and hub; takes about two minutes.

    Three miners trained honestly for different times; the others copy, hide a pickle, publish other
    files than they committed to, or come too late. Everything goes through the real clients.
    """
    from rich.console import Console

    console = Console(highlight=False)
    started = time.monotonic()
    _play(console, empty_folder(root), epochs)
    console.print(f"\n[bold]done[/] in {time.monotonic() - started:.0f} s")


def _play(console: Console, root: Path, epochs: int) -> None:
    from sn37.devnet.building import build
    from sn37.devnet.running import running

    with running(build(root / "world", progress=lambda text: console.print(f"  {text}"))) as world:
        show_miners(console, world)
        for number in range(1, epochs + 1):
            sync_block = world.next_epoch()
            pipelines = [world.write_pipeline(validator, root / validator.name) for validator in world.validators]
            with timed(console, f"epoch {number}, sync block {sync_block}: both validators at work"):
                run_pipelines(pipelines)
            _show_epoch(console, world, root, sync_block)
        world.advance_to_consensus()
        _show_outcome(console, world, root)


def empty_folder(root: Path) -> Path:
    """The folder of a demo, cleared of an earlier one, whose hub is stopped first. Raises ConfigError on another's."""
    from sn37.devnet.running import hub_of

    root = root.absolute()
    if root.exists() and any(root.iterdir()):
        if not (root / MARK).exists():
            raise ConfigError(f"{root} is not empty and no earlier demo; choose another folder with --root")
        # While the folder still says which process it is: once it is cleared, nobody could find it.
        hub_of(root / "world").stop()
        shutil.rmtree(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / MARK).touch()
    return root


@contextmanager
def timed(console: Console, text: str) -> Iterator[None]:
    """Show what is going on, and afterwards how long it took."""
    started = time.monotonic()
    with console.status(text):
        yield
    console.print(f"\n[bold]{text.partition(':')[0]}[/] ({time.monotonic() - started:.0f} s)")


def show_miners(console: Console, world: World) -> None:
    """Who mines, and what each did."""
    from rich.table import Table

    table = Table("uid", "miner", "what it did", title="the miners", title_justify="left")
    for miner in world.miners:
        table.add_row(str(miner.uid), miner.name, miner.story)
    console.print(table)


def run_pipelines(pipelines: Sequence[Path], environment: Mapping[str, str] | None = None) -> None:
    """Validators, all at once, each as its owner would start it: `sn37 run <pipeline file>`."""
    running = []
    cores = sorted(os.sched_getaffinity(0))
    for number, pipeline in enumerate(pipelines):
        home = pipeline.parent
        with (home / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "sn37", "run", str(pipeline)],
                cwd=home,
                env={**os.environ, **(environment or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        # Cores of its own: workers that spin on each other's cores take several times as long.
        os.sched_setaffinity(process.pid, cores[number :: len(pipelines)] or cores)
        running.append((home, process))
    try:
        failed = [home for home, process in running if process.wait() != 0]
    finally:
        for _, process in running:
            process.terminate()
    if failed:
        last = (failed[0] / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise EvaluatorFault(f"{failed[0].name} stopped: {' '.join(last)}; see {failed[0] / 'log.txt'}")


def _epochs(world: World, root: Path, sync_block: int) -> list[tuple[str, Epoch]]:
    return [
        (validator.name, records_of(root, validator.name).epoch(world.competition.id, sync_block))
        for validator in world.validators
    ]


def records_of(root: Path, name: str) -> Records:
    """What that validator recorded."""
    from sn37.records.epochs import Records

    return Records(root / name / "validator" / "records")


def _show_epoch(console: Console, world: World, root: Path, sync_block: int) -> None:
    both = _epochs(world, root, sync_block)
    epoch = both[0][1]
    digests = [{task: data.digest for task, data in e.manifest.data.items()} for _, e in both]
    scores = [{score.hotkey: score.score for score in e.decision.scores} for _, e in both]
    for task, digest in digests[0].items():
        others = all(d[task] == digest for d in digests)
        console.print(f"  samples of {task:16} {digest[:16]}  {'the same for both' if others else 'DIFFERENT'}")
    console.print(f"  scores {'equal to the last digit' if scores[0] == scores[1] else 'DIFFER between validators'}")
    show_leaderboard(console, world, epoch, world.competition)


def show_leaderboard(console: Console, world: World, epoch: Epoch, competition: Competition) -> None:
    """The models' scores, and below them who has none and why."""
    from rich.table import Table

    tasks = [task.name for task in competition.tasks]
    table = Table("uid", "miner", "loss", "win rate", *tasks, title="leaderboard (losses: lower is better)")
    for score in epoch.decision.scores:
        if score.fault is None:
            table.add_row(*_row(world, epoch.decision, score, tasks))
    console.print(table)
    names = {miner.hotkey: miner.name for miner in world.miners}
    for score in epoch.decision.scores:
        if score.fault is not None:
            text = f"  rejected: uid {score.uid} {names.get(score.hotkey, '?')}: {score.fault.reason}"
            # A reason may quote what a miner wrote, brackets included.
            console.print(text, markup=False)
    for pick in epoch.manifest.submissions:
        if not pick.evaluate:
            miner = f"uid {pick.submission.uid} {names.get(pick.submission.hotkey, '?')}"
            console.print(f"  not evaluated: {miner}: {pick.why}", markup=False)


def _row(world: World, decision: Decision, score: Score, tasks: list[str]) -> list[str]:
    rate = decision.win_rate.get(score.hotkey)
    crown = " *" if score.hotkey == decision.winner else ""
    return [
        str(score.uid) + crown,
        next((miner.name for miner in world.miners if miner.hotkey == score.hotkey), "?"),
        f"{score.score:.4f}",
        "-" if rate is None else f"{rate:.0%}",
        *(f"{score.raw[task]:.3f}" for task in tasks),
    ]


def _show_outcome(console: Console, world: World, root: Path) -> None:
    from rich.table import Table

    from sn37.records.decision import Publication

    metagraph = world.metagraph()
    names = {miner.hotkey: miner.name for miner in world.miners}
    published = {name: epoch.read(Publication) for name, epoch in _epochs(world, root, world.sync_block)}
    weights = {name: publication.weights for name, publication in published.items() if publication is not None}
    table = Table("uid", "miner", *(f"weight by {name}" for name in weights), "incentive", title="on the chain")
    for neuron in metagraph.neurons:
        if neuron.hotkey in names:
            shares = [f"{w.get(neuron.hotkey, 0.0):.3f}" for w in weights.values()]
            table.add_row(str(neuron.uid), names[neuron.hotkey], *shares, f"{neuron.incentive:.3f}")
    console.print(table)
    for validator in world.validators:
        neuron = next(n for n in metagraph.neurons if n.hotkey == validator.hotkey)
        trust = "-" if neuron.validator_trust is None else f"{neuron.validator_trust:.3f}"
        console.print(f"  {validator.name}: validator trust {trust}")
    for name, epoch in _epochs(world, root, world.sync_block):
        console.print(f"  {name}: executed notebook {epoch.folder / 'epoch.ipynb'}", soft_wrap=True)
        console.print(f"  {name}: report            {epoch.folder / 'report.html'}", soft_wrap=True)
    console.print(f"  figure of the last epoch         {_draw(world, root)}", soft_wrap=True)


def _draw(world: World, root: Path) -> Path:
    """Which task each model's loss comes from, in the last epoch, as a picture beside the records."""
    from sn37.analysis import figures, frames

    ((_, epoch), *_) = _epochs(world, root, world.sync_block)
    axes = figures.task_scores(frames.scores(epoch))
    path = root / "leaderboard.png"
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, dpi=130)
    return path
