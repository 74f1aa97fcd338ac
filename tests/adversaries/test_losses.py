"""Models made to fool the arithmetic of a loss, in one epoch with an honest one, which wins."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from small import Outcome, Small

from sn37.evaluation.run import preloaded
from sn37.workers.executors import LocalExecutor

ARCHITECTURES = ("LlamaForCausalLM", "Gemma2ForCausalLM")
UNIFORM = math.log(257)


def without_a_body(files: dict[str, bytes]) -> dict[str, Any]:
    """The tensors of a model whose hidden states are its embeddings, normed."""
    tensors = load(files["model.safetensors"])
    for name, tensor in tensors.items():
        if "o_proj" in name or "down_proj" in name:
            tensor.zero_()
    return tensors


def certain(files: dict[str, bytes], certainty: float) -> dict[str, bytes]:
    """Always says "e", whatever comes."""
    tensors, draw = without_a_body(files), torch.Generator().manual_seed(0)
    says = torch.randn(16, generator=draw)
    tensors["model.embed_tokens.weight"].copy_(torch.randn(257, 16, generator=draw) * 0.1 + says)
    tensors["lm_head.weight"].copy_(torch.randn(257, 16, generator=draw) * 0.1)
    tensors["lm_head.weight"][70] = says * certainty
    return {**files, "model.safetensors": save(tensors, {"format": "pt"})}


def shifted(files: dict[str, bytes], constant: float, hidden_nats: float) -> dict[str, bytes]:
    """Uniform, with `constant` and a little on all logits, which softmax does not see."""
    tensors = without_a_body(files)
    tensors["model.embed_tokens.weight"].fill_(1)
    tensors["model.norm.weight"].fill_(1)
    tensors["model.norm.weight"][0] = math.sqrt(abs(constant))
    tensors["lm_head.weight"].fill_(hidden_nats / 15)
    tensors["lm_head.weight"][:, 0] = math.copysign(math.sqrt(abs(constant)), constant)
    return {**files, "model.safetensors": save(tensors, {"format": "pt"})}


def seeing_all(small: Small, **fields: Any) -> dict[str, bytes]:
    """A Gemma2 whose configuration would let attention spread over later tokens."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = Gemma2Config(**shape, num_key_value_heads=1, head_dim=16, vocab_size=257, max_position_embeddings=128)
    folder = small.root / "gemma2"
    Gemma2ForCausalLM(config).save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return {**files, "config.json": json.dumps({**json.loads(files["config.json"]), **fields}).encode()}


SCORED = ("certain", "more-certain", "shifted", "shifted-down", "shifted-far")
REFUSED = {"sees-all": "sliding_window is 0; expected", "sees-more": "use_bidirectional_attention"}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Small, Outcome]]:
    with LocalExecutor(("cpu",), preloaded(ARCHITECTURES)) as executor:
        small = Small.make(tmp_path_factory.mktemp("small"), executor)
        text = small.competition_file.read_text()
        small.competition_file.write_text(text.replace('["LlamaForCausalLM"]', json.dumps(ARCHITECTURES)))
        small.submit("honest", 0.0)
        files = small.files(0.0)
        small.submit("certain", certain(files, 2.0))
        small.submit("more-certain", certain(files, 1e30))
        small.submit("shifted", shifted(files, 2.0**25, 5.8))
        small.submit("shifted-down", shifted(files, -(2.0**25), 5.8))
        small.submit("shifted-far", shifted(files, 1e30, 5.8))
        small.submit("sees-all", seeing_all(small, sliding_window=0, layer_types=["sliding_attention"]))
        small.submit("sees-more", seeing_all(small, use_bidirectional_attention=True))
        small.next_epoch()
        yield small, small.epoch(tmp_path_factory.mktemp("home"), limits={"beyond": 50})
        small.close()


def test_a_constant_on_all_logits_wins_nothing(played: tuple[Small, Outcome]) -> None:
    small, outcome = played
    for name in ("honest", "shifted", "shifted-down", "shifted-far"):
        assert outcome.losses[small.hotkey(name)] == pytest.approx(UNIFORM, abs=1e-4)


def test_a_certain_model_never_leaves_an_epoch_undecided(played: tuple[Small, Outcome]) -> None:
    small, outcome = played
    assert outcome.losses[small.hotkey("certain")] > UNIFORM
    assert 1e20 < outcome.losses[small.hotkey("more-certain")] < math.inf
    assert outcome.decision.winner == small.hotkey("honest")


def test_who_would_see_later_tokens_is_refused(played: tuple[Small, Outcome]) -> None:
    small, outcome = played
    assert set(outcome.losses) == {small.hotkey(name) for name in ("honest", *SCORED)}
    for name, reason in REFUSED.items():
        assert reason in outcome.faults[small.hotkey(name)]
