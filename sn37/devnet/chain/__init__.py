"""The embedded chain: subnets, neurons and blocks in one SQLite file that the real bittensor SDK can use.

`Chain` makes one and administers it: registers hotkeys, sets stakes and rules, lets blocks pass. The SDK's
clients reach it by its `url`, which the entry point `sn37.substrates` hands to `open_substrate`. There is no
daemon: every process opens the same file.

It differs from the live chain: no balances and fees, no emission amounts, no bonds (see `yuma`),
permits and stakes are given, not earned; a hotkey that never set weights need not wait for the rate
limit; block hashes come from the seed alone. Sealed weights (commit-reveal) are taken and kept, but
nothing here can open a timelock: `Chain.reveal` does what the drand beacon does on the live chain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from sn37.devnet.chain.chain import Chain
from sn37.devnet.chain.state import Rules
from sn37.errors import ConfigError

if TYPE_CHECKING:
    from bittensor import Substrate

__all__ = ["Chain", "Rules", "open_substrate"]


def open_substrate(url: str) -> Substrate:
    """The chain of `sqlite:///path/of/the/file` as the SDK's clients take it: `bittensor.Client(substrate=...)`."""
    from sn37.devnet.chain.substrate import embedded

    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or not parts.path:
        raise ConfigError(f"{url!r} names no chain; expected sqlite:///absolute/path")
    return embedded(Chain.open(unquote(parts.path)))
