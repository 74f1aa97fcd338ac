"""An embedded hub."""

from embedded_hub import api, connect, server, time

__all__ = ["api", "connect", "server", "time"]
