"""The embedded hub as a process of its own, which outlives the command that started it."""

from __future__ import annotations

from pathlib import Path

from sn37.devnet.server_process import ServerProcess

__all__ = ["HubProcess"]


class HubProcess(ServerProcess):
    """The hub over `folder`, whose commits take their time from the embedded chain in the file `chain`."""

    def __init__(self, folder: Path, chain: Path) -> None:
        super().__init__("sn37.devnet.hub", ("--root", str(folder), "--chain", str(chain)), folder)
