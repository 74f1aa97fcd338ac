"""Keys: opening a wallet, verifying a signature. No private key is ever read out, printed or raised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sn37.errors import ConfigError

if TYPE_CHECKING:
    from bittensor import Wallet

__all__ = ["open_wallet", "verify"]


def verify(message: str, signature_hex: str, hotkey_ss58: str) -> bool:
    """Whether `signature_hex` (with or without 0x) is the hotkey's own sr25519 signature of `message`.

    Anything malformed is False; it never raises.
    """
    from bittensor.sp_core import verify_signature

    try:
        signature = bytes.fromhex(signature_hex.removeprefix("0x"))
        return bool(verify_signature(message.encode(), signature, hotkey_ss58))
    except (ValueError, TypeError, AttributeError):
        return False


def open_wallet(name: str, hotkey: str, path: str | Path = "~/.bittensor/wallets") -> Wallet:
    """The wallet `name` with its hotkey `hotkey` under `path`; the coldkey stays closed.

    Raises ConfigError when the hotkey's file is missing or unreadable.
    """
    from bittensor import Wallet

    folder = Path(path).expanduser()
    file = folder / name / "hotkeys" / hotkey
    if not file.is_file():
        raise ConfigError(
            f"there is no hotkey {hotkey!r} of a wallet {name!r} in {folder}; "
            f"make it with `btcli wallet new-hotkey`, or name another one"
        )
    wallet = Wallet(name, hotkey, str(folder))
    try:
        _ = wallet.hotkey
    except Exception as error:
        # The cause may quote the file: only its kind is told.
        raise ConfigError(f"the hotkey file {file} cannot be read ({type(error).__name__})") from None
    return wallet
