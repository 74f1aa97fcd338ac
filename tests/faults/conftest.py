"""The smallest subnet, for each test or for a whole module."""

from small import executor, module_small, small

__all__ = ["executor", "module_small", "small"]
