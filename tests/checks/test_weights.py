"""Each check finds what it is for, in every architecture, and the first that fails is the reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sn37.checks.files import check_contents
from sn37.checks.tokenizer import byte_tokenizer
from sn37.checks.weights import (
    check_norms,
    check_values,
    check_vocabulary,
    count_parameters,
    inspect,
    linear_norms,
    unexpected_tensors,
)
from sn37.competition import ARCHITECTURES, Constraints
from sn37.errors import ModelFault

Build = Callable[..., Any]
ALLOWED = Constraints(
    architectures=ARCHITECTURES,
    max_parameters=1_000_000,
    max_bytes=1 << 30,
    sequence_length=128,
    tokenizer=None,
    delay_blocks=0,
    dtype="float32",
)

LAYERS = {
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "gpt_neox": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
    "phi": {"q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"},
    "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "falcon": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
    "bart": {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"},
}
LAYERS |= {"mistral": LAYERS["llama"], "gemma": LAYERS["llama"], "gemma2": LAYERS["llama"]}
LAYERS |= {"falcon_alibi": LAYERS["falcon"]}


def linear(model: Any) -> list[Any]:
    names = [name for name, _ in linear_norms(model)]
    return [model.get_submodule(name) for name in names]


def test_a_good_model_passes(build_model: Build, kind: str, saved: Callable[..., Path]) -> None:
    assert inspect(saved(build_model(kind)), ALLOWED).config.architectures


def test_norms_are_of_every_linear_layer_of_attention_and_mlp(build_model: Build, kind: str) -> None:
    model = build_model(kind)
    norms = dict(linear_norms(model))
    assert {name.rpartition(".")[2] for name in norms} == LAYERS[kind]
    # two layers, and beside their attention Bart's decoder has one over an encoder
    per_layer = 2 * len(LAYERS[kind]) + (8 if kind == "bart" else 0)
    assert len(norms) == per_layer
    for name, norm in norms.items():
        weight = model.get_submodule(name).weight.double()
        assert norm == pytest.approx(math.sqrt(float((weight * weight).sum())), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [0.125, 0.13, 1e-4])
def test_the_norm_of_a_large_layer_of_equal_values_is_exact(
    build_model: Build, dtype: torch.dtype, value: float
) -> None:
    """A sum in float32 is off by up to 3 % there."""
    model = build_model("llama")
    layer = torch.nn.Linear(14_336, 4_096, bias=False, dtype=dtype).requires_grad_(False)
    layer.weight.data.fill_(value)
    model.model.layers[0].mlp.down_proj = layer
    exact = float(layer.weight[0, 0].double()) * math.sqrt(4_096 * 14_336)
    assert dict(linear_norms(model))["model.layers.0.mlp.down_proj"] == pytest.approx(exact, rel=1e-9)


def test_norms_of_layers_that_are_no_whole_number_of_chunks_are_exact(build_model: Build) -> None:
    model = build_model("llama")
    weight = torch.randn(2_049, 2_049, generator=torch.Generator().manual_seed(0)) * 1e15
    model.model.layers[0].mlp.down_proj.weight.data = weight.T  # not contiguous
    assert dict(linear_norms(model))["model.layers.0.mlp.down_proj"] == pytest.approx(
        float(weight.double().norm()), rel=1e-9
    )


def test_any_layer_above_the_hard_norm_is_a_fault(build_model: Build, kind: str) -> None:
    model = build_model(kind)
    for layer in linear(model):
        weight = layer.weight.data.clone()
        layer.weight.data[0, 0] = 1001.0
        with pytest.raises(ModelFault, match="norm 1001"):
            check_norms(model, ALLOWED)
        layer.weight.data.copy_(weight)
    check_norms(model, ALLOWED)


@pytest.mark.parametrize(("count", "passes"), [(2, True), (3, False)])
def test_a_share_of_layers_may_be_above_the_soft_norm(build_model: Build, count: int, passes: bool) -> None:
    model = build_model("llama")  # 14 layers, of which 0.15 are two
    for layer in linear(model)[:count]:
        layer.weight.data[0, 0] = 300.0
    if passes:
        check_norms(model, ALLOWED)
    else:
        with pytest.raises(ModelFault, match="3 of 14 layers"):
            check_norms(model, ALLOWED)


def test_embeddings_and_head_have_no_limit(build_model: Build, kind: str) -> None:
    model = build_model(kind)
    model.get_input_embeddings().weight.data[5, 5] = 1e6
    model.get_output_embeddings().weight.data[5, 5] = 1e6
    check_norms(model, ALLOWED)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_is_a_fault(build_model: Build, kind: str, value: float) -> None:
    model = build_model(kind)
    for name, parameter in model.named_parameters():
        held = parameter.data.flatten()[-1].clone()
        parameter.data.view(-1)[-1] = value
        with pytest.raises(ModelFault, match="not all finite") as caught:
            check_values(model, ALLOWED)
        assert repr(name) in str(caught.value)
        parameter.data.view(-1)[-1] = held
    check_values(model, ALLOWED)


def test_a_value_too_large_for_the_competition_s_dtype_is_a_fault(
    build_model: Build, saved: Callable[..., Path]
) -> None:
    model = build_model("llama")
    model.model.norm.weight.data[0] = 1e6
    folder = saved(model)
    inspect(folder, ALLOWED)
    with pytest.raises(ModelFault, match="not all finite"):
        inspect(folder, replace(ALLOWED, dtype="float16"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"architectures": ("GemmaForCausalLM",)}, "architecture"),
        ({"min_parameters": 999_999}, "parameters"),
        ({"max_parameters": 1_000}, "parameters"),
        ({"norm_hard": 0.001, "norm_soft": 0.001}, "norm"),
    ],
)
def test_a_model_outside_the_constraints_is_a_fault(
    build_model: Build, saved: Callable[..., Path], change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelFault, match=reason):
        inspect(saved(build_model("llama")), replace(ALLOWED, **change))


def test_tied_weights_count_once(build_model: Build, saved: Callable[..., Path]) -> None:
    tied, untied = (build_model("llama", tie_word_embeddings=tie) for tie in (True, False))
    count = sum({p.data_ptr(): p.numel() for p in tied.parameters()}.values())
    exactly = replace(ALLOWED, min_parameters=count, max_parameters=count)
    inspect(saved(tied), exactly)
    with pytest.raises(ModelFault, match=f"{count + 211 * 32:,} parameters"):
        inspect(saved(untied), exactly)


def test_parameters_are_those_of_the_loaded_model(build_model: Build, saved: Callable[..., Path]) -> None:
    """A tied head that is saved as well, and buffers nobody uses, do not count."""
    folder = saved(build_model("llama", tie_word_embeddings=True))
    tensors = load_file(folder / "model.safetensors")
    count = sum(map(torch.numel, tensors.values()))
    exactly = replace(ALLOWED, min_parameters=count, max_parameters=count)
    inspect(folder, exactly)
    head = tensors["model.embed_tokens.weight"].clone()
    buffers = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(2)}
    save_file({**tensors, **buffers, "lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
    inspect(folder, exactly)


LONG_FACTORS = {"short_factor": [1.0] * 4, "long_factor": [3.0] * 4}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("llama", {"rope_type": "dynamic", "factor": 4.0}),
        ("phi3", {"rope_type": "longrope", **LONG_FACTORS}),
    ],
)
def test_positions_turn_at_no_length_a_sequence_has(
    build_model: Build, saved: Callable[..., Path], name: str, changes: dict[str, Any]
) -> None:
    """How many tokens follow would show in every token's loss."""
    limits = {"max_position_embeddings": 100, **({"original_max_position_embeddings": 100} if name == "phi3" else {})}
    folder = saved(build_model(name, rope_scaling={"rope_theta": 1e4, **changes}, **limits))
    inspect(folder, replace(ALLOWED, sequence_length=100))
    with pytest.raises(ModelFault, match="more than 100 tokens; the competition's sequences have 101"):
        inspect(folder, replace(ALLOWED, sequence_length=101))


def test_the_first_check_that_fails_is_the_reason(build_model: Build, saved: Callable[..., Path]) -> None:
    model = build_model("llama")
    for layer in linear(model):
        layer.weight.data *= 1e6
    with pytest.raises(ModelFault, match="norm"):
        inspect(saved(model), ALLOWED)
    model.model.norm.weight.data[0] = math.nan
    with pytest.raises(ModelFault, match="finite"):
        inspect(saved(model), ALLOWED)
    with pytest.raises(ModelFault, match="parameters"):
        inspect(saved(model), replace(ALLOWED, max_parameters=1_000))
    with pytest.raises(ModelFault, match="architecture"):
        inspect(saved(model), replace(ALLOWED, max_parameters=1_000, architectures=("PhiForCausalLM",)))


def test_learned_positions_must_reach_as_far_as_the_sequences(build_model: Build, saved: Callable[..., Path]) -> None:
    inspect(saved(build_model("bart")), replace(ALLOWED, sequence_length=160))
    with pytest.raises(ModelFault, match="160 positions"):
        inspect(saved(build_model("bart")), replace(ALLOWED, sequence_length=161))


def test_every_token_needs_its_embedding(build_model: Build) -> None:
    tokenizer = byte_tokenizer()  # 257 tokens
    check_vocabulary(build_model("llama", vocab_size=257), tokenizer)
    with pytest.raises(ModelFault, match="257 tokens; the model knows 256"):
        check_vocabulary(build_model("llama", vocab_size=256), tokenizer)
    tokenizer.add_tokens(["<|further|>"])
    with pytest.raises(ModelFault, match="258 tokens"):
        check_vocabulary(build_model("llama", vocab_size=257), tokenizer)


def test_a_model_in_the_dtype_of_the_competition_is_inspected(build_model: Build, saved: Callable[..., Path]) -> None:
    assert inspect(saved(build_model("llama")), replace(ALLOWED, dtype="bfloat16")).dtype == torch.bfloat16


def test_parameters_are_counted_without_weights_as_they_are_with_them(kind: str, saved: Callable[..., Path]) -> None:
    for changes in ({}, {"tie_word_embeddings": True}):
        folder = saved(kind, **changes)
        loaded = inspect(folder, ALLOWED)
        tensors = check_contents(folder)
        assert count_parameters(folder, ARCHITECTURES, len(tensors)) == sum(p.numel() for p in loaded.parameters())
        assert unexpected_tensors(loaded, tensors) == ()


def test_a_tensor_without_a_place_is_unexpected_in_every_architecture(kind: str, saved: Callable[..., Path]) -> None:
    folder = saved(kind)
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"model.layers.99.extra": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    assert unexpected_tensors(inspect(folder, ALLOWED), check_contents(folder)) == ("model.layers.99.extra",)
