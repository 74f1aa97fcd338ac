"""The table of architectures is whole, and what it lets through never sees what it must not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from sn37 import competition
from sn37.engine.architectures import ARCHITECTURES, architecture_of
from sn37.engine.fast import FastEngine
from sn37.engine.interface import GenerateRow, LossRow
from sn37.engine.model import load
from sn37.engine.reference import ReferenceEngine
from sn37.errors import ModelFault

Build = Callable[..., Any]
Save = Callable[..., Path]
IDS = torch.arange(3, 27)[None]
CHANGED_FROM = 12
LAYERS = ["full_attention", "sliding_attention"]
VALUES: list[Any] = [
    *(None, True, False, -(10**9), -7, -1, 0, 1, 2, 3, 5, 8, 31, 211, 10**6, 10**12),
    *(-1.0, 0.0, 1e-30, 0.25, 1.0, 2.5, 1e30, math.nan, math.inf, -math.inf),
    *("", "gelu", "relu", "prelu", "eager", "full_attention", "x" * 1000),
    *([], [0], [-1, 2], LAYERS, LAYERS[::-1], LAYERS[:1] * 2, LAYERS * 2, ["chunked_attention"] * 2, [None, None]),
    *({}, {"rope_type": "default"}, {"full_attention": {"rope_type": "default"}}),
]
ROPES: list[dict[str, Any]] = [
    {"rope_type": kind, "rope_theta": 10_000.0, **given}
    for kind in ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional", "axial", None, 3)
    for given in (
        {},
        *({"factor": factor} for factor in (-2.0, 0.0, 1.0, 4.0, math.nan)),
        *({"factor": 4.0, "original_max_position_embeddings": most} for most in (-1, 0, 1, 16, 10**12)),
        *({"short_factor": [1.0] * n, "long_factor": [value] * n} for n in (2, 4) for value in (-1.0, 0.0, 3.0)),
        *({"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": high} for high in (-1.0, 0.0, 1.0, 4.0)),
        *({"partial_rotary_factor": share} for share in (-1.0, 0.0, 0.25, 0.4, 1.0, 2.0)),
        *({"rope_theta": theta} for theta in (-1.0, 0.0, 1e300, None)),
        {"attention_factor": -1.0, "factor": 2.0},
        {"mrope_section": [1, 1, 2]},
    )
]


def own_fields(cls: Any) -> set[str]:
    from transformers import PreTrainedConfig

    return {field.name for field in fields(cls)} - {field.name for field in fields(PreTrainedConfig)}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_table_has_every_own_field_of_every_architecture(name: str) -> None:
    """Who moves to another version of transformers says what its new fields may hold."""
    architecture = ARCHITECTURES[name]
    assert set(architecture.fields) == own_fields(architecture.config_type())
    assert set(architecture.config_type().attribute_map) <= set(architecture.aliases)
    architecture.check(architecture.config_type()())


def test_the_table_has_what_competitions_may_allow(model_of: Callable[[str], Any], kind: str) -> None:
    assert set(ARCHITECTURES) == set(competition.ARCHITECTURES)
    model = model_of(kind)
    assert architecture_of(model) is ARCHITECTURES[type(model).__name__]
    layers = len(
        {
            name.split(".layers.")[-1].split(".h.")[-1].split(".")[0]
            for name, _ in model.named_modules()
            if name.endswith(architecture_of(model).attention)
        }
    )
    assert architecture_of(model).layers(model.config) == layers == 2


def assert_sees_nothing_it_must_not(model: Any) -> None:
    """Neither later tokens, nor other rows, nor what a batch is padded with."""
    changed = IDS.clone()
    changed[0, CHANGED_FROM:] = 99
    with torch.inference_mode():
        alone, other = (model(input_ids=ids, use_cache=False).logits[0, :CHANGED_FROM] for ids in (IDS, changed))
    assert torch.equal(alone.nan_to_num(), other.nan_to_num())
    rows = [LossRow(tuple(IDS[0, :n].tolist()), start) for n, start in ((24, 1), (20, 12), (13, 12), (7, 3))]
    rows += [LossRow((*rows[1].tokens[:12], 5 + i, 9), 12) for i in range(3)]
    expected = ReferenceEngine(model, 64).losses(rows)
    assert FastEngine(model, 64, 4096).losses(rows) == pytest.approx(expected, rel=1e-4, abs=1e-4, nan_ok=True)
    if all(map(math.isfinite, expected)):
        prompts = [GenerateRow(row.tokens, 3) for row in rows]
        assert FastEngine(model, 64, 4096).generate(prompts) == ReferenceEngine(model, 64).generate(prompts)


def sweep(folder: Path, changes: list[dict[str, Any]]) -> tuple[int, int]:
    """Tries each change of config.json: (how many were refused, how many loaded and held)."""
    config = json.loads((folder / "config.json").read_text())
    refused = 0
    for change in changes:
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        try:
            model = load(folder, "float32", "cpu", competition.ARCHITECTURES)
        except ModelFault:
            refused += 1
        else:
            assert_sees_nothing_it_must_not(model)
    return refused, len(changes) - refused


def test_whatever_a_field_holds_no_token_sees_what_it_must_not(saved: Save, kind: str) -> None:
    folder = saved(kind)
    config = json.loads((folder / "config.json").read_text())
    names = ARCHITECTURES[config["architectures"][0]].fields
    for name in sorted(names):
        refused, held = sweep(folder, [{name: value} for value in VALUES if value != config.get(name)])
        assert refused > 0, name
        assert refused + held > 30


@pytest.mark.parametrize("name", ["falcon", "gemma", "gemma2", "gpt_neox", "llama", "mistral", "phi", "phi3"])
def test_whatever_positions_are_no_token_sees_what_it_must_not(saved: Save, name: str) -> None:
    folder = saved(name)
    refused, held = sweep(folder, [{"rope_parameters": rope} for rope in ROPES])
    assert refused > 30 and held > 5


@pytest.mark.parametrize("field", ["sliding_window", "num_hidden_layers", "attn_logit_softcapping"])
def test_a_value_out_of_range_is_named_with_the_range(saved: Save, field: str) -> None:
    folder = saved("gemma2")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, field: 0}))
    with pytest.raises(ModelFault, match=f"config.json: {field} is 0; expected a .* (from 1 to|above 0, at most)"):
        load(folder, "float32", "cpu", competition.ARCHITECTURES)


@pytest.mark.parametrize("window", [0, -1, -(10**9)])
@pytest.mark.parametrize("name", ["mistral", "phi3", "gemma2"])
def test_a_window_that_no_token_is_in_is_refused(saved: Save, name: str, window: int) -> None:
    """Where no key is left, attention is uniform over the whole row, later tokens included."""
    folder = saved(name)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "sliding_window": window}))
    with pytest.raises(ModelFault, match=f"sliding_window is {window}; expected a whole number from 1 to"):
        load(folder, "float32", "cpu", competition.ARCHITECTURES)


def test_layers_of_bart_are_those_of_its_decoder(saved: Save) -> None:
    folder = saved("bart")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 7, "encoder_layers": 9}))
    load(folder, "float32", "cpu", competition.ARCHITECTURES)
    (folder / "config.json").write_text(json.dumps({**config, "decoder_layers": 4000}))
    with pytest.raises(ModelFault, match="asks for 4000 layers"):
        load(folder, "float32", "cpu", competition.ARCHITECTURES)


def spying(name: str, build_model: Build) -> Any:
    """A model of one layer in which the token 99 has a score of nearly the highest number, all others of the lowest.

    A key's score is 0 plus what its token stands for in dimension 1 of the embeddings, whatever the query.
    """
    if name == "gemma2":
        small = build_model(name, num_hidden_layers=1, query_pre_attn_scalar=1)
        fields = {**small.config.to_dict(), "attn_logit_softcapping": None}
        model = type(small)(type(small.config)(**fields)).eval().requires_grad_(False)
        attention = model.model.layers[0].self_attn
        model.model.layers[0].input_layernorm.weight.zero_()
        attention.q_proj.weight.zero_()[3::8, 0] = 4e18  # the slowest angle of each head: it hardly turns
        attention.k_proj.weight.zero_()[3::8, 1] = 4e18
    else:
        model = build_model(name, num_hidden_layers=1, num_attention_heads=16, bias=True)
        attention = model.transformer.h[0].self_attention.query_key_value
        model.transformer.h[0].input_layernorm.weight.fill_(1)
        model.transformer.h[0].input_layernorm.bias.zero_()
        attention.weight[:34].zero_()[32, 1] = 9e18  # one key of two numbers, behind sixteen queries of two
        attention.bias[:34].zero_()[:32:2] = 9e18
    embeddings = model.get_input_embeddings().weight.zero_()
    embeddings[:, 0], embeddings[:, 1] = 1, -1
    embeddings[99, 1] = 1
    return model


@pytest.mark.parametrize("name", ["gemma2", "falcon_alibi"])
def test_scores_as_low_as_any_number_reach_no_later_token(build_model: Build, saved: Save, name: str) -> None:
    """Where masked keys get the lowest number, and not -inf, visible ones can be made to get less."""
    model = spying(name, build_model)
    loaded = load(saved(model), "float32", "cpu", competition.ARCHITECTURES)
    changed = IDS.clone()
    changed[0, CHANGED_FROM:] = 99
    for asked, sees in ((model, True), (loaded, False)):
        before, after = (asked(input_ids=ids, use_cache=False).logits[0, :CHANGED_FROM] for ids in (IDS, changed))
        assert before.isfinite().all() and after.isfinite().all()
        assert torch.equal(before, after) != sees
    assert_sees_nothing_it_must_not(loaded)
