"""What the embedded chain accepts and refuses: signatures, nonces, limits of commitments and weights."""

import dataclasses
import json

import bittensor as bt
import pytest
from bittensor.sp_core import Keypair

from sn37.devnet.chain import Chain
from sn37.devnet.chain.extrinsics import Extrinsic, Refused, encode, next_nonce, payload


def key(name):
    return Keypair.create_from_uri(f"//{name}")


@pytest.fixture
def chain(tmp_path):
    made = Chain.create(tmp_path / "chain.db")
    for name, stake in (("Val", 1000.0), ("Miner", 0.0), ("Other", 0.0)):
        made.register(37, key(name).ss58_address, stake=stake, permit=stake > 0)
    yield made
    made.close()


@pytest.fixture
def client(chain, sdk):
    return sdk(chain)


def commit(client, name, raw, netuid=37, variant=None):
    field = {variant or f"Raw{len(raw)}": raw}
    call = bt.calls.Commitments.set_commitment(netuid=netuid, info={"fields": [field]})
    return client.submit_call(call, key(name), signer="hotkey")


def set_weights(client, name, uids, values, version_key=0, mecid=0):
    """As a hand-made client would, past the SDK's own checks."""
    call = bt.calls.SubtensorModule.set_mechanism_weights(
        netuid=37, mecid=mecid, dests=uids, weights=values, version_key=version_key
    )
    return client.submit_call(call, key(name), signer="hotkey")


def signed(chain, name, call, nonce=None, by=None):
    who = key(name).ss58_address
    nonce = next_nonce(chain.store, who) if nonce is None else nonce
    message = payload(chain.store.origin.genesis, who, nonce, call)
    return Extrinsic(who, nonce, call, key(by or name).sign(message))


COMMIT = encode("Commitments", "set_commitment", {"netuid": 37, "info": {"fields": [{"Raw2": b"hi"}]}})


def test_a_refused_call_passes_no_block_and_uses_no_nonce(chain, client):
    before = chain.head()
    assert not commit(client, "Stranger", b"x").success
    assert chain.head() == before
    assert next_nonce(chain.store, key("Stranger").ss58_address) == 0


@pytest.mark.parametrize(
    "forge",
    [
        lambda chain: signed(chain, "Miner", COMMIT, by="Other"),
        lambda chain: dataclasses.replace(signed(chain, "Miner", COMMIT), call=COMMIT.replace("37", "1")),
        lambda chain: dataclasses.replace(signed(chain, "Miner", COMMIT), address=key("Other").ss58_address),
        lambda chain: dataclasses.replace(signed(chain, "Miner", COMMIT), nonce=1),
        lambda chain: dataclasses.replace(signed(chain, "Miner", COMMIT), signature=bytes(64)),
        lambda chain: dataclasses.replace(signed(chain, "Miner", COMMIT), signature=b""),
        lambda chain: dataclasses.replace(signed(chain, "Miner", COMMIT), crypto_type=0),
        lambda chain: dataclasses.replace(signed(chain, "Miner", COMMIT), crypto_type=77),
        lambda chain: dataclasses.replace(signed(chain, "Miner", COMMIT), address="nobody"),
    ],
    ids=["wrong key", "call", "address", "nonce", "zeros", "empty", "other scheme", "no scheme", "no address"],
)
def test_a_forged_signature_is_refused(chain, forge):
    with pytest.raises(Refused, match="bad signature") as refusal:
        chain.include(forge(chain))
    assert refusal.value.name == "BadProof"
    assert chain.head() == 5_200_000


def test_a_signer_cannot_speak_for_another_through_the_sdk(chain, client):
    class Impostor:
        ss58_address, public_key, crypto_type = key("Miner").ss58_address, key("Miner").public_key, 1

        def sign(self, message):
            return key("Other").sign(message)

    call = bt.calls.Commitments.set_commitment(netuid=37, info={"fields": [{"Raw1": b"x"}]})
    result = client.submit_call(call, Impostor(), signer="hotkey")
    assert not result.success
    assert result.error.name == "BadProof"
    assert client.subnets.commitments(37) == {}


def test_a_call_cannot_be_sent_twice_nor_to_another_chain(chain, tmp_path):
    extrinsic = signed(chain, "Miner", COMMIT)
    chain.include(extrinsic)
    chain.advance(200)
    with pytest.raises(Refused, match="outdated") as refusal:
        chain.include(extrinsic)
    assert refusal.value.name == "Stale"
    with pytest.raises(Refused, match="in the future"):
        chain.include(signed(chain, "Miner", COMMIT, nonce=5))
    twin = Chain.create(tmp_path / "twin.db", seed="another")
    twin.register(37, key("Miner").ss58_address)
    with pytest.raises(Refused, match="bad signature"):
        twin.include(extrinsic)


def test_an_ed25519_key_signs_too(chain, client):
    signer = Keypair.create_from_uri("//Ed", 0)
    chain.register(37, signer.ss58_address)
    call = bt.calls.Commitments.set_commitment(netuid=37, info={"fields": [{"Raw2": b"ed"}]})
    assert client.submit_call(call, signer, signer="hotkey").success


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"netuid": 37},
        {"netuid": "x", "info": {"fields": [{"Raw1": "0x00"}]}},
        {"netuid": 37, "info": {"fields": [{"Raw1": 5}]}},
        {"netuid": 37, "info": {"fields": [{"Raw1": "0xzz"}]}},
        {"netuid": 37, "info": {"fields": [["Raw1"]]}},
        {"netuid": 37, "info": {"fields": [{}]}},
        {"netuid": 37, "info": {"fields": [{"Raw2": "0x00"}]}},
        {"netuid": 37, "info": {"fields": [{"Raw129": "0x" + "00" * 129}]}},
        {"netuid": 37, "info": {"fields": [{"Blake": "0x00"}]}},
        {"netuid": 37, "info": None},
        {"netuid": 1e400, "info": {"fields": [{"Raw1": "0x00"}]}},
    ],
    ids=json.dumps,
)
def test_parameters_that_make_no_sense_are_refused_not_crashed_on(chain, params):
    with pytest.raises(Refused) as refusal:
        chain.include(signed(chain, "Miner", encode("Commitments", "set_commitment", params)))
    assert refusal.value.name == "InvalidCall"


def test_unknown_calls_and_values_are_refused(chain):
    with pytest.raises(Refused, match=r"no call Balances\.transfer_all"):
        chain.include(signed(chain, "Miner", encode("Balances", "transfer_all", {})))
    with pytest.raises(Refused, match="no part of a call"):
        encode("Commitments", "set_commitment", {"netuid": object()})


# Commitments --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "accepted"), [(0, True), (1, True), (127, True), (128, True), (129, False)])
def test_a_commitment_has_at_most_128_bytes(client, size, accepted):
    assert commit(client, "Miner", b"x" * size).success is accepted


def test_any_bytes_can_be_committed_and_come_back(chain, client):
    for number, raw in enumerate((b"\x00\xff\xfe", "é🦀".encode(), b"0x41", b"a\nb")):
        chain.register(37, key(f"m{number}").ss58_address)
        assert commit(client, f"m{number}", raw).success
        (field,) = client.subnets.commitments(37)[key(f"m{number}").ss58_address].fields
        assert field == {f"Raw{len(raw)}": "0x" + raw.hex()}


@pytest.mark.parametrize(("blocks", "accepted"), [(1, False), (99, False), (100, True)])
def test_a_hotkey_commits_once_in_a_hundred_blocks(chain, client, blocks, accepted):
    first = commit(client, "Miner", b"one")
    assert first.success
    chain.advance(blocks - 1)  # the call itself goes into the next block
    second = commit(client, "Miner", b"two")
    assert second.success is accepted
    if not accepted:
        assert second.error.name == "CommitmentSetRateLimitExceeded"
        assert second.error.code is bt.ErrorCode.RATE_LIMITED
        assert f"{blocks} have passed" in second.message
    assert commit(client, "Other", b"another hotkey").success


def test_a_hotkey_commits_3100_bytes_in_an_epoch_of_the_subnet(chain, client):
    chain.set_rules(37, commitment_rate_limit=0)
    chain.advance_to(chain.next_step(37))
    for _ in range(31):
        assert commit(client, "Miner", b"a short one counts as 100 bytes").success
    refused = commit(client, "Miner", b"x")
    assert refused.error.name == "SpaceLimitExceeded"
    assert commit(client, "Other", b"x").success
    chain.advance_to(chain.next_step(37))
    assert commit(client, "Miner", b"x").success


@pytest.mark.parametrize(
    ("name", "netuid", "error"),
    [("Stranger", 37, "AccountNotAllowedCommit"), ("Miner", 5, "SubnetNotExists")],
)
def test_who_is_not_registered_there_commits_nothing(client, name, netuid, error):
    assert commit(client, name, b"x", netuid=netuid).error.name == error


def test_more_than_one_field_is_refused(chain, client):
    call = bt.calls.Commitments.set_commitment(netuid=37, info={"fields": [{"Raw1": b"a"}, {"Raw1": b"b"}]})
    result = client.submit_call(call, key("Miner"), signer="hotkey")
    assert result.error.name == "TooManyFieldsInCommitmentInfo"


# Weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uids", "values", "error"),
    [
        ([1, 2], [1], "WeightVecNotEqualSize"),
        ([1, 1], [1, 1], "DuplicateUids"),
        ([1, 3], [1, 1], "UidVecContainInvalidOne"),
        ([-1], [1], "UidVecContainInvalidOne"),
        ([], [], "WeightVecLengthIsLow"),
        ([1], [0], "WeightVecLengthIsLow"),
        ([1], [65_536], "WeightVecLengthIsLow"),
        ([1], [-5], "WeightVecLengthIsLow"),
    ],
)
def test_malformed_weights_are_refused_by_name(client, uids, values, error):
    assert set_weights(client, "Val", uids, values).error.name == error


@pytest.mark.parametrize(
    ("name", "rules", "error"),
    [
        ("Stranger", {}, "HotKeyNotRegisteredInSubNet"),
        ("Miner", {}, "NeuronNoValidatorPermit"),
        ("Val", {"min_stake": 1001.0}, "NotEnoughStakeToSetWeights"),
        ("Val", {"weights_version": 11}, "IncorrectWeightVersionKey"),
        ("Val", {"min_allowed_weights": 3}, "WeightVecLengthIsLow"),
        ("Val", {"max_weight_limit": 30_000}, "MaxWeightExceeded"),
        ("Val", {"commit_reveal": True}, "CommitRevealEnabled"),
    ],
)
def test_the_subnets_rules_for_weights_hold(chain, client, name, rules, error):
    chain.set_rules(37, **rules)
    assert set_weights(client, name, [1, 2], [1, 1], version_key=10).error.name == error


def test_another_mechanism_does_not_exist(client):
    assert set_weights(client, "Val", [1], [1], mecid=1).error.name == "MechanismDoesNotExist"


@pytest.mark.parametrize(("blocks", "accepted"), [(1, False), (99, False), (100, True)])
def test_weights_are_set_once_in_a_hundred_blocks(chain, client, blocks, accepted):
    assert set_weights(client, "Val", [1], [1]).success
    chain.advance(blocks - 1)
    result = set_weights(client, "Val", [2], [1])
    assert result.success is accepted
    assert accepted or result.error.name == "SettingWeightsTooFast"


def test_weights_are_stored_scaled_to_the_largest(client):
    assert set_weights(client, "Val", [1, 2], [10, 5]).success
    (record, *_) = client.neurons.all(37, lite=False)
    assert record.raw["weights"] == [(1, 65_535), (2, 32_768)]


def test_a_weight_on_itself_alone_is_free_of_the_limits(chain, client):
    chain.set_rules(37, min_allowed_weights=3, max_weight_limit=100)
    assert set_weights(client, "Val", [0], [1]).success


def test_sealed_weights_are_kept_and_in_force_once_revealed(chain, client):
    chain.set_rules(37, commit_reveal=True)
    result = client.execute(bt.SetWeights(netuid=37, weights={1: 1.0}), key("Val"))
    assert result.success
    assert result.data["reveal_round"] > 0
    assert client.weights.weights(37) == {}
    ((pending,),) = client.weights.timelocked_weight_commits(37).values()
    assert (pending["hotkey"], pending["reveal_round"]) == (key("Val").ss58_address, result.data["reveal_round"])
    chain.advance(100)
    chain.reveal(37, key("Val").ss58_address, {key("Miner").ss58_address: 1.0})
    assert client.weights.weights(37) == {0: {1: 1.0}}
    assert client.weights.timelocked_weight_commits(37) == {}


def test_sealed_weights_obey_the_rate_limit_and_need_the_rule(chain, client):
    intent = bt.CommitWeights(netuid=37, weights={1: 1.0})
    assert client.execute(intent, key("Val")).error.name == "CommitRevealDisabled"
    chain.set_rules(37, commit_reveal=True)
    assert client.execute(intent, key("Val")).success
    with pytest.raises(bt.ChainError) as refusal:
        client.execute(intent, key("Val"))
    assert refusal.value.code is bt.ErrorCode.RATE_LIMITED
