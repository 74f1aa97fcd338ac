"""Rows of hub datasets pinned in time, and signed wandb runs."""

from sn37.data.pinned import PinnedDatasets, ReadLimits
from sn37.data.runs import WandbRuns

__all__ = ["PinnedDatasets", "ReadLimits", "WandbRuns"]
