"""Functions that run in workers, and tiny models."""

from tiny_models import build_model, functions

__all__ = ["build_model", "functions"]
