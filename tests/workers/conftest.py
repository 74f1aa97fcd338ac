"""Functions that run in workers."""

from tiny_models import functions

__all__ = ["functions"]
