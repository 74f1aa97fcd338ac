"""The validator: an epoch as a composition of plain functions over records.

    plan -> fetch -> evaluate -> decide -> publish (-> mirror)

One cell each in `notebooks/validator_epoch.ipynb`. Decisions are pure functions of records; input and
output happen at the edges.
"""

from __future__ import annotations

from sn37.records.epochs import Epoch, Records
from sn37.validator.connect import connect
from sn37.validator.decide import Decided, decide
from sn37.validator.evaluate import Evaluated, evaluate
from sn37.validator.fetch import Fetched, fetch
from sn37.validator.mirror import mirror
from sn37.validator.plan import Plan, plan
from sn37.validator.publish import publish, write_result
from sn37.validator.replay import replay
from sn37.validator.settings import Settings

__all__ = [
    "Decided",
    "Epoch",
    "Evaluated",
    "Fetched",
    "Plan",
    "Records",
    "Settings",
    "connect",
    "decide",
    "evaluate",
    "fetch",
    "mirror",
    "plan",
    "publish",
    "replay",
    "write_result",
]
