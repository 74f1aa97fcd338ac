"""Where samples come from: a registry of sources, one small file each."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from sn37.sources.base import SOURCES, Context, Source, source
from sn37.sources.drawing import draw_samples

__all__ = ["SOURCES", "Context", "Source", "draw_samples", "source"]

# A new source is a new file here, and nothing else: importing it registers it.
for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
