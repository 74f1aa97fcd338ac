"""How an answer becomes a number: a registry of methods, one small file each. Lower is better."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from sn37.methods.base import METHODS, Method, MethodResult, Row, Tokenizer, TokenizerFault, apply, method, rows_of

__all__ = ["METHODS", "Method", "MethodResult", "Row", "Tokenizer", "TokenizerFault", "apply", "method", "rows_of"]

# A new method is a new file here, and nothing else: importing it registers it.
for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
