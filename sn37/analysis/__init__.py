"""Records to data frames, statistics, figures, explanations; needs no chain and no GPU."""

from __future__ import annotations

from sn37.analysis import copies, figures, frames, stats
from sn37.analysis.explanation import explain

__all__ = ["copies", "explain", "figures", "frames", "stats"]
