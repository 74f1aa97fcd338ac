"""A signed call as the embedded chain takes it: its canonical text, nonce and signature, or a refusal.

Knows nothing of what a call does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sn37.devnet.chain.store import Store

__all__ = ["Extrinsic", "Refused", "check_signature", "encode", "next_nonce", "payload"]

_SR25519 = 1


class Refused(Exception):
    """The chain refuses a call. name: the error's name on the live chain."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Extrinsic:
    """A signed call."""

    address: str
    """Who signed it."""
    nonce: int
    """How many calls that account has sent before."""
    call: str
    """Canonical JSON of module, function and params."""
    signature: bytes
    """Over `payload`."""
    crypto_type: int = _SR25519
    """The kind of key, as bittensor numbers them."""


def encode(module: str, function: str, params: Mapping[str, object]) -> str:
    """The canonical text of a call; bytes become 0x... text."""

    def plain(value: object) -> str:
        if isinstance(value, bytes | bytearray):
            return "0x" + bytes(value).hex()
        raise Refused("InvalidCall", f"a {type(value).__name__} is no part of a call")

    call = {"module": module, "function": function, "params": dict(params)}
    return json.dumps(call, default=plain, sort_keys=True, separators=(",", ":"))


def payload(genesis: str, address: str, nonce: int, call: str) -> bytes:
    """The bytes a signer signs: bound to this chain, the signer, its nonce and the call."""
    return json.dumps([genesis, address, nonce, call], separators=(",", ":")).encode()


def next_nonce(store: Store, address: str) -> int:
    """The nonce the next call of `address` must carry."""
    row = store.one("SELECT next FROM nonces WHERE address = ?", address)
    return 0 if row is None else int(row["next"])


def check_signature(store: Store, extrinsic: Extrinsic) -> None:
    """Raises Refused unless the account itself signed."""
    from bittensor.sp_core import verify_signature

    message = payload(store.origin.genesis, extrinsic.address, extrinsic.nonce, extrinsic.call)
    try:
        genuine = verify_signature(message, extrinsic.signature, extrinsic.address, extrinsic.crypto_type)
    except (ValueError, TypeError):
        genuine = False
    if not genuine:
        raise Refused("BadProof", f"the transaction has a bad signature for {extrinsic.address}")
