"""The typed, versioned record of an epoch, and folds over many of them.

>>> from pathlib import Path
>>> from sn37.records import Records
>>> for epoch in Records(Path("validator/records")).sealed(4)[-3:]:
...     print(epoch.sync_block, epoch.decision.winner)
"""

from __future__ import annotations

from sn37.records.decision import Decision, Publication, Score, Turn
from sn37.records.epochs import Epoch, Records
from sn37.records.faults import Fault, StageFault, Waits
from sn37.records.history import History, Tried, Win
from sn37.records.manifest import Manifest, Pick, TaskData
from sn37.records.results import Measurement, Result, TaskResult

__all__ = [
    "Decision",
    "Epoch",
    "Fault",
    "History",
    "Manifest",
    "Measurement",
    "Pick",
    "Publication",
    "Records",
    "Result",
    "Score",
    "StageFault",
    "TaskData",
    "TaskResult",
    "Tried",
    "Turn",
    "Waits",
    "Win",
]
