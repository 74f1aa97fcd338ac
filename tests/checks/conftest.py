"""Tiny models of every architecture, and heads of safetensors files."""

from embedded_hub import safetensors
from tiny_models import build_model, functions, kind, model_of, saved

__all__ = ["build_model", "functions", "kind", "model_of", "safetensors", "saved"]
