"""sn37: a Jupyter-first research toolkit for finetuning competitions on Bittensor (subnet 37)."""

__version__ = "0.1.0"

__all__ = ["__version__"]
