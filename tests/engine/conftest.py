"""Tiny models of every architecture."""

from tiny_models import build_model, functions, kind, model_of, saved

__all__ = ["build_model", "functions", "kind", "model_of", "saved"]
