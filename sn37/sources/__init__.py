"""Where samples come from: a registry of sources, one small file each."""

from __future__ import annotations

from sn37.sources.base import SOURCES, Context, Source, source

__all__ = ["SOURCES", "Context", "Source", "source"]
