"""Signatures and wallets: what verifies, what is refused, and that no key ever shows."""

import bittensor as bt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn37.chain import Subnet, open_wallet, verify
from sn37.errors import ChainFault, ConfigError


def test_a_signature_verifies_with_its_own_key_and_message_only(keys):
    ann, ben = keys("Ann"), keys("Ben")
    signature = ann.sign(b"run-1").hex()
    assert verify("run-1", signature, ann.ss58_address)
    assert verify("run-1", "0x" + signature, ann.ss58_address)
    assert not verify("run-2", signature, ann.ss58_address)
    assert not verify("run-1", signature, ben.ss58_address)
    assert not verify("run-1", ben.sign(b"run-1").hex(), ann.ss58_address)


@pytest.mark.parametrize("signature", ["", "0x", "zz", "00", "00" * 64, "00" * 65, None, 5, b"00", "é" * 64])
def test_a_malformed_signature_is_false_never_an_exception(keys, signature):
    assert verify("run", signature, keys("Ann").ss58_address) is False


@pytest.mark.parametrize("hotkey", ["", "5F", "nobody", None, 5, "5" * 48])
def test_a_malformed_address_is_false_never_an_exception(keys, hotkey):
    assert verify("run", keys("Ann").sign(b"run").hex(), hotkey) is False


@settings(deadline=None)
@given(st.text(), st.text(), st.text())
def test_no_text_makes_it_raise(message, signature, hotkey):
    assert verify(message, signature, hotkey) is False


@pytest.fixture
def wallet_folder(tmp_path):
    wallet = bt.Wallet("miner", "first", str(tmp_path))
    wallet.create_new_coldkey(use_password=False, suppress=True)
    wallet.create_new_hotkey(suppress=True)
    return tmp_path


def test_a_wallet_opens_by_its_hotkey_and_commits(chain, wallet_folder):
    wallet = open_wallet("miner", "first", wallet_folder)
    chain.register(37, wallet.hotkey.ss58_address)
    with Subnet(chain.url, 37, wallet=wallet) as subnet:
        assert subnet.hotkey == wallet.hotkey.ss58_address
        assert subnet.commit("text") == chain.head()


@pytest.mark.parametrize(("name", "hotkey"), [("miner", "second"), ("other", "first"), ("", "")])
def test_a_missing_wallet_is_named(wallet_folder, name, hotkey):
    with pytest.raises(ConfigError, match=f"there is no hotkey {hotkey!r} of a wallet {name!r} in"):
        open_wallet(name, hotkey, wallet_folder)


def test_a_broken_hotkey_file_is_named_and_not_quoted(wallet_folder):
    file = wallet_folder / "miner" / "hotkeys" / "first"
    file.write_text("secret but no key")
    with pytest.raises(ConfigError, match="cannot be read") as refusal:
        open_wallet("miner", "first", wallet_folder)
    assert "secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize("act", [lambda s: s.hotkey, lambda s: s.commit("x"), lambda s: s.set_weights({"a": 1.0})])
def test_what_needs_a_wallet_says_so(subnet, act):
    with pytest.raises(ConfigError, match="this needs a wallet"):
        act(subnet())


def test_no_key_shows_in_representations_or_faults(chain, wallet_folder):
    wallet = open_wallet("miner", "first", wallet_folder)
    secret = (wallet_folder / "miner" / "hotkeys" / "first").read_text()
    seeds = [part for part in secret.replace('"', " ").split() if len(part) > 20 and part != wallet.hotkey.ss58_address]
    assert seeds
    with Subnet(chain.url, 37, wallet=wallet) as subnet:
        shown = [repr(subnet), str(subnet)]
        for act in (lambda: subnet.commit("x"), lambda: subnet.set_weights({"a": 1.0})):
            with pytest.raises(ChainFault) as refusal:
                act()
            shown.append(str(refusal.value))
    public = bytes(wallet.hotkey.public_key).hex()
    for text in shown:
        assert not any(seed in text for seed in seeds if public not in seed)
