"""Publish, fetch and check models; pinned pages of datasets: the only importer of huggingface_hub."""
