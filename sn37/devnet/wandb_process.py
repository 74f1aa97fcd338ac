"""The embedded wandb, with what its authors have logged so far, as a process of its own."""

from __future__ import annotations

from pathlib import Path

from sn37.devnet.server_process import ServerProcess

__all__ = ["WandbProcess"]


class WandbProcess(ServerProcess):
    """Serves the runs of the authors whose keys lie in `wallets`, by the time of the chain in the file `chain`."""

    def __init__(self, place: Path, wallets: Path, chain: Path) -> None:
        super().__init__("sn37.devnet.authors", ("--wallets", str(wallets), "--chain", str(chain)), place)
