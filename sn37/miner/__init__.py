"""Preflight, publish, baseline training."""
