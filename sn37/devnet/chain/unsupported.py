"""The parts of `bittensor.Substrate` that the embedded chain does not have: each says so."""

from __future__ import annotations

from typing import Any

from bittensor import ChainError, ExtrinsicResult

__all__ = ["Unsupported", "missing"]


def missing(what: str) -> ChainError:
    """The error for something the embedded chain does not have."""
    return ChainError(f"the embedded chain has no {what}", "CallFiltered")


class Unsupported:
    """Every method is a `ChainError` that names what is missing."""

    async def decode_scale(self, type_string: str, data: Any) -> Any:
        """Not here: nothing is encoded."""
        raise missing("SCALE encoding")

    async def events(self, block_hash: str | None = None) -> list[dict[str, Any]]:
        """Not here: none are kept."""
        raise missing("events")

    async def submit_signed(self, extrinsic: Any, keypair: Any, **waits: bool) -> ExtrinsicResult:
        """Not here: calls are signed and submitted at once."""
        raise missing("calls signed beforehand")

    async def sign_extrinsic(self, call: Any, keypair: Any, *, nonce: int, period: int) -> tuple[bytes, str]:
        """Not here: calls are signed and submitted at once."""
        raise missing("calls signed beforehand")

    async def prepare(self, call: Any, **options: Any) -> Any:
        """Not here: calls are signed by a key at hand."""
        raise missing("calls signed elsewhere")

    async def submit_signature(self, unsigned: Any, signature: bytes | str, **waits: bool) -> ExtrinsicResult:
        """Not here: calls are signed by a key at hand."""
        raise missing("calls signed elsewhere")

    async def find_extrinsic(self, extrinsic_hash: str, block_hash: str) -> ExtrinsicResult | None:
        """Not here: calls have no hash of their own."""
        raise missing("extrinsic hashes")

    def multisig_account(self, signatories: list[str], threshold: int) -> Any:
        """Not here."""
        raise missing("multisig accounts")

    async def submit_multisig(self, call: Any, keypair: Any, multisig_account: Any, **waits: bool) -> ExtrinsicResult:
        """Not here."""
        raise missing("multisig accounts")
