"""An embedded hub and small models on it."""

from embedded_hub import api, config, connect, constraints, hotkey, safetensors, server, time, upload, write_model

__all__ = [
    "api",
    "config",
    "connect",
    "constraints",
    "hotkey",
    "safetensors",
    "server",
    "time",
    "upload",
    "write_model",
]
