"""The embedded hub: an HTTP server the real Hugging Face clients talk to, over a plain folder."""

from sn37.devnet.hub.server import HubServer

__all__ = ["HubServer"]
