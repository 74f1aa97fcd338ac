"""The miner: training, the checks a validator makes, publishing."""

from __future__ import annotations

from sn37.miner.check import Checked, check
from sn37.miner.history import History
from sn37.miner.hyperparameters import Hyperparameters
from sn37.miner.publish import Publication, plan, publish
from sn37.miner.score import Verdict, score
from sn37.miner.starts import Start, find_start
from sn37.miner.training import Trained, train

__all__ = [
    "Checked",
    "History",
    "Hyperparameters",
    "Publication",
    "Start",
    "Trained",
    "Verdict",
    "check",
    "find_start",
    "plan",
    "publish",
    "score",
    "train",
]
