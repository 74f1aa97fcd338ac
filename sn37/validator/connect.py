"""Opens the two outside worlds of a validator, the chain and the hub, from its settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.errors import ConfigError
from sn37.validator.settings import Settings

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import Hub

__all__ = ["connect"]


def connect(settings: Settings) -> tuple[Subnet, Hub]:
    """The subnet, with the validator's wallet where it publishes, and the hub. Raises ConfigError, ChainFault.

    A hub token, needed for private or gated data and to publish records, is taken from the environment variable
    HF_TOKEN.
    """
    from sn37.chain import Subnet, open_wallet
    from sn37.hub import Hub

    token = os.environ.get("HF_TOKEN")
    if settings.publish and settings.publish_records and not token:
        raise ConfigError(f"publish_records is {settings.publish_records!r}: uploading needs a hub token; set HF_TOKEN")
    folder = Path(settings.wallet_path).expanduser()
    wallet = open_wallet(settings.wallet, settings.hotkey, folder) if settings.publish else None
    subnet = Subnet(settings.network, settings.netuid, wallet=wallet)
    cache, max_bytes = settings.root / "cache" / "models", settings.keep.models_bytes
    hub = Hub(settings.hub, token, cache=cache, max_cache_bytes=max_bytes)
    return subnet, hub
