"""The smallest subnet an epoch can be played on."""

from small import executor, module_small

__all__ = ["executor", "module_small"]
