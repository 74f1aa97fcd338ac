"""Records to data frames, figures, explanations; needs no chain and no GPU."""

from __future__ import annotations

from sn37.analysis import figures

__all__ = ["figures"]
