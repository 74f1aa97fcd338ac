"""The miner: training, the checks a validator makes, publishing."""

from __future__ import annotations

from sn37.miner.history import History
from sn37.miner.hyperparameters import Hyperparameters
from sn37.miner.preflight import Preflight, preflight
from sn37.miner.publish import Publication, publish
from sn37.miner.starts import Start, find_start
from sn37.miner.training import Trained, train

__all__ = [
    "History",
    "Hyperparameters",
    "Preflight",
    "Publication",
    "Start",
    "Trained",
    "find_start",
    "preflight",
    "publish",
    "train",
]
