"""Which chain a network's name stands for: one of the SDK's, or a substrate that an installed package offers.

A name like `scheme://...` belongs to the entry point `scheme` of the group `sn37.substrates`: a
function from the name to a `bittensor.Substrate`. So an embedded chain is used without being imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from sn37.errors import ConfigError

if TYPE_CHECKING:
    from bittensor import Substrate

__all__ = ["opener"]

_GROUP = "sn37.substrates"


def opener(network: str) -> Callable[[], Substrate] | None:
    """How to open the network's substrate; None when the SDK itself knows the network.

    Raises ConfigError, with the known names, for a network nobody knows.
    """
    from bittensor.settings import NETWORKS

    scheme, separator, _ = network.partition("://")
    if (not separator and network in NETWORKS) or (separator and scheme in ("ws", "wss")):
        return None
    offered = {point.name: point for point in entry_points(group=_GROUP)}
    if not separator or scheme not in offered:
        known = [*sorted(NETWORKS), "ws://...", "wss://...", *(f"{name}://..." for name in sorted(offered))]
        raise ConfigError(f"unknown network {network!r}; expected one of {', '.join(known)}")
    open_substrate: Callable[[str], Substrate] = offered[scheme].load()
    return lambda: open_substrate(network)
