"""Publish, fetch and cache models on the hub: the only importer of huggingface_hub."""

from sn37.hub.client import Hub
from sn37.hub.fetch import FetchedModel

__all__ = ["FetchedModel", "Hub"]
