"""Tiny models of every architecture."""

from tiny_models import build_model, kind, saved

__all__ = ["build_model", "kind", "saved"]
