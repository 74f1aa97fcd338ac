"""Starting and stopping a world: its hub is a process that outlives whoever started it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sn37.devnet.hub_process import HubProcess
from sn37.devnet.world import World

__all__ = ["hub_of", "open_world", "running", "start_hub", "stop_hub"]


def hub_of(root: Path) -> HubProcess:
    """The hub of the world in that folder, as a process, whether or not it runs."""
    return HubProcess(root / "hub", root / "chain.sqlite")


def open_world(root: Path, *, port: int = 0) -> World:
    """The world in that folder, its hub started where it does not run. Raises ConfigError where there is none.

    port: 0 for the one it had, or any other when that one is taken.
    """
    world = World.read(root)
    try:
        return start_hub(world, port)
    finally:
        world.close()


def start_hub(world: World, port: int = 0) -> World:
    """Start the hub unless it runs; the world as it now is, and is described. port: as in `open_world`."""
    moved = replace(world, hub_endpoint=hub_of(world.root).start_again(world.hub_endpoint, port))
    if World.exists(world.root):
        moved.write()
    return moved


def stop_hub(world: World) -> bool:
    """Stop the hub; whether it ran."""
    return hub_of(world.root).stop()


@contextmanager
def running(world: World) -> Iterator[World]:
    """The world for as long as the context lasts; at its end its hub is stopped and the chain's file closed."""
    try:
        yield world
    finally:
        stop_hub(world)
        world.close()
