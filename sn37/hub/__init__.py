"""Publish, fetch and check models; pinned pages of datasets: the only importer of huggingface_hub."""

from sn37.hub.client import Hub
from sn37.hub.fetch import FetchedModel
from sn37.hub.pages import PinnedDatasets
from sn37.hub.static import StaticReport, check_static

__all__ = ["FetchedModel", "Hub", "PinnedDatasets", "StaticReport", "check_static"]
