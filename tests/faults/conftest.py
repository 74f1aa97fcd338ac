"""The smallest subnet, for each test or for a whole module."""

from small import executor, module_small, small
from worlds import built

__all__ = ["built", "executor", "module_small", "small"]
