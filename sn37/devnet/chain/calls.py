"""What the embedded chain accepts: signed calls, checked and applied, or refused by the live chain's error names.

A refused call leaves nothing behind: no block, no nonce. Knows SQLite rows and signatures, not the
SDK's clients. Registration is no call here: see `Chain.register`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from sn37.devnet.chain.extrinsics import Extrinsic, Refused, check_signature, next_nonce
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

__all__ = ["MAX_RAW_BYTES", "accept"]

MAX_RAW_BYTES = 128
"""The longest Raw field of a commitment."""

_MIN_CHARGED_BYTES = 100
_MAX_CIPHERTEXT_BYTES = 5_000


def accept(store: Store, extrinsic: Extrinsic, block: int) -> int:
    """Check and apply a call in block `block`; only inside `writing`. Returns its position in the block.

    Raises Refused.
    """
    check_signature(store, extrinsic)
    expected = next_nonce(store, extrinsic.address)
    if extrinsic.nonce != expected:
        name, what = ("Stale", "is outdated") if extrinsic.nonce < expected else ("Future", "lies in the future")
        raise Refused(name, f"the transaction {what}: nonce {extrinsic.nonce}, expected {expected}")
    call = json.loads(extrinsic.call)
    kind = _CALLS.get((call["module"], call["function"]))
    if kind is None:
        raise Refused("CallFiltered", f"the embedded chain has no call {call['module']}.{call['function']}")
    try:
        kind.validate_python(call["params"]).apply(store, block, extrinsic.address)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        raise Refused("InvalidCall", f"the {where} of {call['function']} cannot be read: {detail['msg']}") from None
    row = store.one("SELECT COUNT(*) AS count FROM extrinsics WHERE block = ?", block)
    position = int(row["count"]) + 1 if row else 1
    store.insert("nonces", address=extrinsic.address, next=expected + 1)
    signature = extrinsic.signature.hex()
    store.insert(
        "extrinsics",
        block=block,
        position=position,
        address=extrinsic.address,
        call=extrinsic.call,
        signature=signature,
    )
    return position


class _Call(Protocol):
    """The parameters of a call, and what it does. Raises Refused."""

    def apply(self, store: Store, block: int, hotkey: str) -> None: ...


def _rules(store: Store, netuid: int, mecid: int = 0) -> Rules:
    rules = rules_of(store, netuid)
    if rules is None:
        raise Refused("SubnetNotExists", f"there is no subnet {netuid}")
    if mecid != 0:
        raise Refused("MechanismDoesNotExist", f"subnet {netuid} has no mechanism {mecid}")
    return rules


@dataclass(frozen=True)
class _Info:
    fields: list[dict[str, str]]


@dataclass(frozen=True)
class _SetCommitment:
    netuid: int
    info: _Info

    def apply(self, store: Store, block: int, hotkey: str) -> None:
        rules, fields = _rules(store, self.netuid), self.info.fields
        if all(neuron.hotkey != hotkey for neuron in neurons_at(store, self.netuid, block)):
            raise Refused("AccountNotAllowedCommit", f"{hotkey} is not registered on subnet {self.netuid}")
        if len(fields) != 1:
            raise Refused("TooManyFieldsInCommitmentInfo", f"a commitment has one field, not {len(fields)}")
        raw = _raw_bytes(fields[0])
        charge = max(len(raw), _MIN_CHARGED_BYTES)
        self._check_limits(store, block, hotkey, rules, charge)
        answer = json.dumps([{f"Raw{len(raw)}": "0x" + raw.hex()}])
        store.insert("commitments", netuid=self.netuid, hotkey=hotkey, block=block, fields=answer, bytes=charge)

    def _check_limits(self, store: Store, block: int, hotkey: str, rules: Rules, charge: int) -> None:
        epoch, limit = last_step(self.netuid, rules.tempo, block), rules.commitment_rate_limit
        row = store.one(
            "SELECT MAX(block) AS last, SUM(bytes) FILTER (WHERE block > ?) AS used FROM commitments"
            " WHERE netuid = ? AND hotkey = ?",
            epoch,
            self.netuid,
            hotkey,
        )
        last, used = (row["last"], row["used"] or 0) if row else (None, 0)
        if last is not None and block - last < limit:
            raise Refused(
                "CommitmentSetRateLimitExceeded",
                f"the commitment rate limit is {limit} blocks; {block - last} have passed",
            )
        if used + charge > rules.commitment_bytes:
            raise Refused(
                "SpaceLimitExceeded", f"a hotkey may commit {rules.commitment_bytes} bytes in an epoch of the subnet"
            )


def _raw_bytes(field: Mapping[str, str]) -> bytes:
    """The bytes of a commitment's field, which must be `{"Raw<length>": bytes}`."""
    if len(field) != 1:
        raise Refused("InvalidCall", "a commitment's field is one Raw value")
    ((variant, value),) = field.items()
    try:
        raw = bytes.fromhex(value[2:]) if value.startswith("0x") else value.encode()
    except ValueError:
        raise Refused("InvalidCall", "a commitment's Raw value is bytes") from None
    if len(raw) > MAX_RAW_BYTES or variant != f"Raw{len(raw)}":
        raise Refused(
            "InvalidCall", f"{variant} with {len(raw)} bytes is no field; expected Raw0 to Raw{MAX_RAW_BYTES}"
        )
    return raw


def _validator(store: Store, netuid: int, rules: Rules, hotkey: str, block: int, error: str) -> tuple[NeuronRow, int]:
    """The caller's neuron, once it may set weights at all, and how many neurons there are."""
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
    return me, len(neurons)


@dataclass(frozen=True)
class _SetWeights:
    netuid: int
    dests: list[int]
    weights: list[int]
    version_key: int
    mecid: int = 0

    def apply(self, store: Store, block: int, hotkey: str) -> None:
        rules = _rules(store, self.netuid, self.mecid)
        if rules.commit_reveal:
            raise Refused("CommitRevealEnabled", f"subnet {self.netuid} takes sealed weights only")
        if self.version_key < rules.weights_version:
            raise Refused(
                "IncorrectWeightVersionKey", f"version {self.version_key} is older than {rules.weights_version}"
            )
        me, size = _validator(store, self.netuid, rules, hotkey, block, "SettingWeightsTooFast")
        self._check_row(me.uid, size, rules)
        # The chain keeps a row scaled so that its largest weight is 65535.
        top = max(self.weights)
        row = [(uid, round(value * U16 / top)) for uid, value in zip(self.dests, self.weights, strict=True)]
        write_weights(store, self.netuid, me.uid, block, row)
        write_neuron(store, self.netuid, replace(me, last_update=block, block=block))

    def _check_row(self, me: int, size: int, rules: Rules) -> None:
        """Refuse a row of weights that breaks the subnet's rules. me: the validator's uid; size: neurons."""
        uids, values = self.dests, self.weights
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


@dataclass(frozen=True)
class _CommitWeights:
    netuid: int
    commit: str
    reveal_round: int
    mecid: int = 0

    def apply(self, store: Store, block: int, hotkey: str) -> None:
        rules = _rules(store, self.netuid, self.mecid)
        if not rules.commit_reveal:
            raise Refused("CommitRevealDisabled", f"subnet {self.netuid} takes plain weights only")
        me, _ = _validator(store, self.netuid, rules, hotkey, block, "CommittingWeightsTooFast")
        try:
            sealed = bytes.fromhex(self.commit.removeprefix("0x"))
        except ValueError:
            raise Refused("InvalidCall", "sealed weights are bytes") from None
        if len(sealed) > _MAX_CIPHERTEXT_BYTES:
            raise Refused("CommitPayloadTooLarge", f"sealed weights have at most {_MAX_CIPHERTEXT_BYTES} bytes")
        store.insert(
            "sealed", netuid=self.netuid, hotkey=hotkey, block=block, ciphertext=sealed, round=self.reveal_round
        )
        write_neuron(store, self.netuid, replace(me, last_update=block, block=block))


_SET_WEIGHTS: TypeAdapter[_Call] = TypeAdapter(_SetWeights)
_COMMIT_WEIGHTS: TypeAdapter[_Call] = TypeAdapter(_CommitWeights)
_CALLS: dict[tuple[str, str], TypeAdapter[_Call]] = {
    ("Commitments", "set_commitment"): TypeAdapter(_SetCommitment),
    ("SubtensorModule", "set_weights"): _SET_WEIGHTS,
    ("SubtensorModule", "set_mechanism_weights"): _SET_WEIGHTS,
    ("SubtensorModule", "commit_timelocked_weights"): _COMMIT_WEIGHTS,
    ("SubtensorModule", "commit_timelocked_mechanism_weights"): _COMMIT_WEIGHTS,
}
