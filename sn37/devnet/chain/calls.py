"""What the embedded chain accepts: signed calls, checked and applied, or refused by the live chain's error names.

A refused call leaves nothing behind: no block, no nonce. Knows SQLite rows and signatures, not the
SDK's clients. Registration is no call here: see `Chain.register`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sn37.devnet.chain.state import (
    RAO_PER_TAO,
    U16,
    NeuronRow,
    Rules,
    last_step,
    neurons_at,
    rules_of,
    write_neuron,
    write_weights,
)
from sn37.devnet.chain.store import Store

__all__ = ["MAX_RAW_BYTES", "Extrinsic", "Refused", "accept", "encode", "next_nonce", "payload"]

MAX_RAW_BYTES = 128
"""The longest Raw field of a commitment."""

_MIN_CHARGED_BYTES = 100
_MAX_CIPHERTEXT_BYTES = 5_000
_SR25519 = 1


class Refused(Exception):
    """The chain refuses a call. name: the error's name on the live chain."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Extrinsic:
    """A signed call. call: canonical JSON of module, function and params; signature: over `payload`."""

    address: str
    nonce: int
    call: str
    signature: bytes
    crypto_type: int = _SR25519


def encode(module: str, function: str, params: Mapping[str, Any]) -> str:
    """The canonical text of a call; bytes become 0x... text."""

    def plain(value: Any) -> Any:
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


def accept(store: Store, extrinsic: Extrinsic, block: int) -> int:
    """Check and apply a call in block `block`; only inside `writing`. Returns its position in the block.

    Raises Refused.
    """
    _check_signature(store, extrinsic)
    expected = next_nonce(store, extrinsic.address)
    if extrinsic.nonce != expected:
        name, what = ("Stale", "is outdated") if extrinsic.nonce < expected else ("Future", "lies in the future")
        raise Refused(name, f"the transaction {what}: nonce {extrinsic.nonce}, expected {expected}")
    call = json.loads(extrinsic.call)
    apply = _CALLS.get((call["module"], call["function"]))
    if apply is None:
        raise Refused("CallFiltered", f"the embedded chain has no call {call['module']}.{call['function']}")
    try:
        apply(store, block, extrinsic.address, call["params"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Refused("InvalidCall", f"the parameters of {call['function']} cannot be read: {error!r}") from None
    row = store.one("SELECT COUNT(*) AS count FROM extrinsics WHERE block = ?", block)
    position = int(row["count"]) + 1 if row else 1
    store.connection.execute("INSERT OR REPLACE INTO nonces VALUES (?, ?)", (extrinsic.address, expected + 1))
    store.connection.execute(
        "INSERT INTO extrinsics VALUES (?, ?, ?, ?, ?)",
        (block, position, extrinsic.address, extrinsic.call, extrinsic.signature.hex()),
    )
    return position


def _check_signature(store: Store, extrinsic: Extrinsic) -> None:
    from bittensor.sp_core import verify_signature

    message = payload(str(store.meta("genesis")), extrinsic.address, extrinsic.nonce, extrinsic.call)
    try:
        genuine = verify_signature(message, extrinsic.signature, extrinsic.address, extrinsic.crypto_type)
    except (ValueError, TypeError):
        genuine = False
    if not genuine:
        raise Refused("BadProof", f"the transaction has a bad signature for {extrinsic.address}")


def _subnet(store: Store, params: Mapping[str, Any]) -> tuple[int, Rules]:
    netuid = int(params["netuid"])
    rules = rules_of(store, netuid)
    if rules is None:
        raise Refused("SubnetNotExists", f"there is no subnet {netuid}")
    if int(params.get("mecid", 0)) != 0:
        raise Refused("MechanismDoesNotExist", f"subnet {netuid} has no mechanism {params['mecid']}")
    return netuid, rules


def _set_commitment(store: Store, block: int, hotkey: str, params: Mapping[str, Any]) -> None:
    netuid, rules = _subnet(store, params)
    if all(neuron.hotkey != hotkey for neuron in neurons_at(store, netuid, block)):
        raise Refused("AccountNotAllowedCommit", f"{hotkey} is not registered on subnet {netuid}")
    fields = params["info"]["fields"]
    if len(fields) != 1:
        raise Refused("TooManyFieldsInCommitmentInfo", f"a commitment has one field, not {len(fields)}")
    raw = _raw_bytes(fields[0])
    row = store.one("SELECT MAX(block) AS block FROM commitments WHERE netuid = ? AND hotkey = ?", netuid, hotkey)
    last = row["block"] if row else None
    if last is not None and block - last < rules.commitment_rate_limit:
        raise Refused(
            "CommitmentSetRateLimitExceeded",
            f"the commitment rate limit is {rules.commitment_rate_limit} blocks; {block - last} have passed",
        )
    epoch = last_step(netuid, rules.tempo, block)
    row = store.one(
        "SELECT SUM(bytes) AS used FROM commitments WHERE netuid = ? AND hotkey = ? AND block > ?",
        netuid,
        hotkey,
        epoch,
    )
    charge = max(len(raw), _MIN_CHARGED_BYTES)
    if (row["used"] or 0 if row else 0) + charge > rules.commitment_bytes:
        raise Refused(
            "SpaceLimitExceeded", f"a hotkey may commit {rules.commitment_bytes} bytes in an epoch of the subnet"
        )
    answer = json.dumps([{f"Raw{len(raw)}": "0x" + raw.hex()}])
    store.connection.execute("INSERT INTO commitments VALUES (?, ?, ?, ?, ?)", (netuid, hotkey, block, answer, charge))


def _raw_bytes(field: Any) -> bytes:
    """The bytes of a commitment's field, which must be `{"Raw<length>": bytes}`."""
    if not isinstance(field, dict) or len(field) != 1:
        raise Refused("InvalidCall", "a commitment's field is one Raw value")
    ((variant, value),) = field.items()
    try:
        raw = bytes.fromhex(value[2:]) if value.startswith("0x") else value.encode()
    except (AttributeError, ValueError):
        raise Refused("InvalidCall", "a commitment's Raw value is bytes") from None
    if len(raw) > MAX_RAW_BYTES or variant != f"Raw{len(raw)}":
        raise Refused(
            "InvalidCall", f"{variant} with {len(raw)} bytes is no field; expected Raw0 to Raw{MAX_RAW_BYTES}"
        )
    return raw


def _validator(store: Store, netuid: int, rules: Rules, hotkey: str, block: int, error: str) -> list[NeuronRow]:
    """The subnet's neurons, the caller first, once it may set weights at all."""
    neurons = neurons_at(store, netuid, block)
    me = next((neuron for neuron in neurons if neuron.hotkey == hotkey), None)
    if me is None:
        raise Refused("HotKeyNotRegisteredInSubNet", f"{hotkey} is not registered on subnet {netuid}")
    if me.stake < rules.min_stake * RAO_PER_TAO:
        raise Refused("NotEnoughStakeToSetWeights", f"{hotkey} has less than {rules.min_stake:g} TAO of stake")
    since = block - me.last_update
    if me.last_update and since < rules.weights_rate_limit:
        raise Refused(error, f"the weights rate limit is {rules.weights_rate_limit} blocks; {since} have passed")
    if not me.permit:
        raise Refused("NeuronNoValidatorPermit", f"{hotkey} holds no validator permit on subnet {netuid}")
    return [me, *(neuron for neuron in neurons if neuron.uid != me.uid)]


def _set_weights(store: Store, block: int, hotkey: str, params: Mapping[str, Any]) -> None:
    netuid, rules = _subnet(store, params)
    uids, values = [int(uid) for uid in params["dests"]], [int(value) for value in params["weights"]]
    if rules.commit_reveal:
        raise Refused("CommitRevealEnabled", f"subnet {netuid} takes sealed weights only")
    if int(params["version_key"]) < rules.weights_version:
        raise Refused(
            "IncorrectWeightVersionKey", f"version {params['version_key']} is older than {rules.weights_version}"
        )
    me, *others = _validator(store, netuid, rules, hotkey, block, "SettingWeightsTooFast")
    check_weights(uids, values, me.uid, 1 + len(others), rules)
    top = max(values)
    row = [(uid, round(value * U16 / top)) for uid, value in zip(uids, values, strict=True)]
    write_weights(store, netuid, me.uid, block, row)
    write_neuron(store, netuid, NeuronRow(**{**asdict(me), "last_update": block, "block": block}))


def check_weights(uids: list[int], values: list[int], me: int, size: int, rules: Rules) -> None:
    """Refuse a row of weights that breaks the subnet's rules. me: the validator's uid; size: neurons."""
    if len(uids) != len(values):
        raise Refused("WeightVecNotEqualSize", f"{len(uids)} uids, but {len(values)} weights")
    if len(set(uids)) != len(uids):
        raise Refused("DuplicateUids", "a uid is weighted twice")
    if any(not 0 <= uid < size for uid in uids):
        raise Refused("UidVecContainInvalidOne", f"a uid is not in 0..{size - 1}")
    if any(not 0 <= value <= U16 for value in values) or sum(values) == 0:
        raise Refused("WeightVecLengthIsLow", f"weights are 0..{U16}, not all of them 0")
    if uids == [me]:
        return
    if len(uids) < rules.min_allowed_weights:
        raise Refused("WeightVecLengthIsLow", f"{len(uids)} weights; expected {rules.min_allowed_weights} or more")
    if max(values) * U16 > rules.max_weight_limit * sum(values):
        raise Refused("MaxWeightExceeded", f"a weight exceeds the limit of {rules.max_weight_limit / U16:.4f}")


def _commit_weights(store: Store, block: int, hotkey: str, params: Mapping[str, Any]) -> None:
    netuid, rules = _subnet(store, params)
    if not rules.commit_reveal:
        raise Refused("CommitRevealDisabled", f"subnet {netuid} takes plain weights only")
    me, *_ = _validator(store, netuid, rules, hotkey, block, "CommittingWeightsTooFast")
    ciphertext = bytes.fromhex(str(params["commit"])[2:])
    if len(ciphertext) > _MAX_CIPHERTEXT_BYTES:
        raise Refused("CommitPayloadTooLarge", f"sealed weights have at most {_MAX_CIPHERTEXT_BYTES} bytes")
    store.connection.execute(
        "INSERT INTO sealed VALUES (?, ?, ?, ?, ?, NULL)",
        (netuid, hotkey, block, ciphertext, int(params["reveal_round"])),
    )
    write_neuron(store, netuid, NeuronRow(**{**asdict(me), "last_update": block, "block": block}))


_CALLS: dict[tuple[str, str], Callable[[Store, int, str, Mapping[str, Any]], None]] = {
    ("Commitments", "set_commitment"): _set_commitment,
    ("SubtensorModule", "set_weights"): _set_weights,
    ("SubtensorModule", "set_mechanism_weights"): _set_weights,
    ("SubtensorModule", "commit_timelocked_weights"): _commit_weights,
    ("SubtensorModule", "commit_timelocked_mechanism_weights"): _commit_weights,
}
