"""The demo of all competitions: `python -m all_competitions`, with tests/support among Python's paths."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from all_competitions.building import built
from sn37.commands.demo import empty_folder, records_of, run_pipelines, show_leaderboard, show_miners, timed
from sn37.devnet.world import write_pipeline
from sn37.errors import Sn37Error

if TYPE_CHECKING:
    from rich.console import Console

    from all_competitions.world import AllCompetitions
    from sn37.records.epochs import Epoch


def main() -> int:
    """One validator funds the public competitions by 0.5, one of its own by 0.3 and one published on the hub by 0.2,
    and judges two honest miners in each; their sizes are scaled down, their tasks are not."""
    from rich.console import Console

    parser = argparse.ArgumentParser("all_competitions", description=main.__doc__)
    parser.add_argument("--root", type=Path, default=Path("out/demo-all"), help="where the world and records are kept")
    parser.add_argument("--epochs", type=int, default=1, choices=range(1, 21), metavar="N", help="of each competition")
    options = parser.parse_args()
    console, started = Console(highlight=False), time.monotonic()
    try:
        play(console, empty_folder(options.root), options.epochs)
    except Sn37Error as error:
        print(error, file=sys.stderr)
        return 2
    console.print(f"\n[bold]done[/] in {time.monotonic() - started:.0f} s")
    return 0


def play(console: Console, root: Path, epochs: int) -> None:
    """So many epochs of each competition, one competition at each sync block: they take turns by themselves."""
    with built(root / "world", lambda text: console.print(f"  {text}")) as scene:
        world, shares = scene.world, scene.shares()
        validator = world.validators[0]
        show_miners(console, world)
        found = []
        for _ in range(epochs * len(shares)):
            sync_block = world.next_epoch()
            competition = shares[world.clock.index(sync_block) % len(shares)].competition
            pipeline = write_pipeline(root / validator.name, scene.parameters(validator))
            with timed(console, f"{competition.name} at sync block {sync_block}: the validator at work"):
                run_pipelines([pipeline], scene.environment)
            found.append(records_of(root, validator.name).epoch(competition.id, sync_block))
            _show_epoch(console, scene, found[-1])
        world.advance_to_consensus()
        _show_split(console, scene, found)


def _show_epoch(console: Console, scene: AllCompetitions, epoch: Epoch) -> None:
    competition = next(s.competition for s in scene.shares() if s.competition.id == epoch.competition_id)
    for task in competition.tasks:
        data = epoch.manifest.data[task.name]
        dropped = ", ".join(f"{n} {why}" for why, n in sorted(data.dropped.items()))
        left_out = f"; left out: {dropped}" if dropped else ""
        console.print(f"  {task.name:16} {task.source} -> {task.method}, {data.samples} samples{left_out}")
    show_leaderboard(console, scene.world, epoch, competition)


def _show_split(console: Console, scene: AllCompetitions, epochs: list[Epoch]) -> None:
    """Who pays for what, who won it, and what stands on the chain."""
    from rich.table import Table

    world = scene.world
    with world.subnet() as subnet:
        weights = subnet.validator_weights().get(world.validators[0].hotkey, {})
        incentive = {neuron.hotkey: neuron.incentive for neuron in subnet.metagraph().neurons}
    names = {miner.hotkey: miner.name for miner in world.miners}
    winners = {epoch.competition_id: str(epoch.decision.winner) for epoch in epochs}
    table = Table("competition", "funded as", "share", "winner", "weight", "incentive", title="on the chain")
    totals = dict.fromkeys(scene.funding, 0.0)
    for share in scene.shares():
        item, winner = scene.funded_as(share.competition), winners[share.competition.id]
        weight = weights.get(winner, 0.0)
        totals[item] += weight
        numbers = f"{weight:.4f}", f"{incentive.get(winner, 0.0):.4f}"
        table.add_row(share.competition.name, _short(item), f"{share.share:.4f}", names.get(winner, "nobody"), *numbers)
    console.print(table)
    for item, wanted in scene.funding.items():
        console.print(f"  {_short(item):32} funded with {wanted:.2f}, on the chain {totals[item]:.4f}")
    for epoch in epochs[-len(winners) :]:
        console.print(f"  report {epoch.folder / 'report.html'}", soft_wrap=True)


def _short(item: str) -> str:
    repo, _, commit = item.partition("@")
    return f"{repo}@{commit[:8]}" if commit else Path(item).name


if __name__ == "__main__":
    sys.exit(main())
