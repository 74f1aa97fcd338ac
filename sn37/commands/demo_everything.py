"""`sn37 demo --competitions all`: the public competitions, one of a validator's own and one from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sn37.commands.demo import introduce, records_of, run_validators, show_leaderboard, timed

if TYPE_CHECKING:
    from rich.console import Console

    from sn37.devnet.everything import Everything
    from sn37.records.epochs import Epoch

__all__ = ["play"]


def play(console: Console, root: Path, epochs: int) -> None:
    """So many epochs of each competition, one competition at each sync block: they take turns by themselves."""
    from sn37.devnet.everything import Everything

    with Everything.create(root / "world", tell=lambda text: console.print(f"  {text}")) as world:
        introduce(console, world)
        shares = world.shares()
        found = []
        for _ in range(epochs * len(shares)):
            sync_block = world.next_epoch()
            competition = shares[world.clock.index(sync_block) % len(shares)].competition
            with timed(console, f"{competition.name} at sync block {sync_block}: the validator at work"):
                run_validators(world, world.validators[:1], root)
            found.append(records_of(root, world.validators[0].name).epoch(competition.id, sync_block))
            _show_epoch(console, world, found[-1])
        world.advance_to_consensus()
        _show_split(console, world, found)


def _show_epoch(console: Console, world: Everything, epoch: Epoch) -> None:
    competition = next(s.competition for s in world.shares() if s.competition.id == epoch.competition_id)
    for task in competition.tasks:
        data = epoch.manifest.data[task.name]
        dropped = ", ".join(f"{n} {why}" for why, n in sorted(data.dropped.items()))
        left_out = f"; left out: {dropped}" if dropped else ""
        console.print(f"  {task.name:16} {task.source} -> {task.method}, {data.samples} samples{left_out}")
    show_leaderboard(console, world, epoch, competition)


def _show_split(console: Console, world: Everything, epochs: list[Epoch]) -> None:
    """Who pays for what, who won it, and what stands on the chain."""
    from rich.table import Table

    validator = world.validators[0]
    with world.subnet() as subnet:
        weights = subnet.validator_weights().get(validator.hotkey, {})
        incentive = {neuron.hotkey: neuron.incentive for neuron in subnet.metagraph().neurons}
    names = {miner.hotkey: miner.name for miner in world.miners}
    winners = {epoch.competition_id: str(epoch.decision.winner) for epoch in epochs}
    table = Table("competition", "funded as", "share", "winner", "weight", "incentive", title="on the chain")
    totals = dict.fromkeys(world.funding, 0.0)
    for share in world.shares():
        item, winner = world.funded_as(share.competition), winners[share.competition.id]
        weight = weights.get(winner, 0.0)
        totals[item] += weight
        numbers = f"{weight:.4f}", f"{incentive.get(winner, 0.0):.4f}"
        table.add_row(share.competition.name, _short(item), f"{share.share:.4f}", names.get(winner, "nobody"), *numbers)
    console.print(table)
    for item, wanted in world.funding.items():
        console.print(f"  {_short(item):32} funded with {wanted:.2f}, on the chain {totals[item]:.4f}")
    for epoch in epochs[-len(winners) :]:
        console.print(f"  report {epoch.folder / 'report.html'}", soft_wrap=True)


def _short(item: str) -> str:
    repo, _, commit = item.partition("@")
    return f"{repo}@{commit[:8]}" if commit else Path(item).name
