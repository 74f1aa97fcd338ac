"""Rows of hub datasets pinned in time, signed wandb runs, and the records that validators have published."""

from sn37.data.jobs import ReadLimits
from sn37.data.pinned import PinnedDatasets
from sn37.data.published import open_records
from sn37.data.runs import WandbRuns

__all__ = ["PinnedDatasets", "ReadLimits", "WandbRuns", "open_records"]
