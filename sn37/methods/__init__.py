"""How an answer becomes a number: a registry of methods, one small file each. Lower is better."""

from __future__ import annotations

from sn37.methods.base import METHODS, Method, MethodResult, Tokenizer, method

__all__ = ["METHODS", "Method", "MethodResult", "Tokenizer", "method"]
