"""A sketch is of the weights: not of how they are stored, nor of the process it is taken in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sn37.analysis.copies import NEAR, distance
from sn37.competition import ARCHITECTURES
from sn37.engine.model import load
from sn37.evaluation.sketch import sketch_of

Build = Callable[..., Any]


def sketched(folder: Path, dtype: str = "bfloat16") -> Any:
    return sketch_of(load(folder, dtype, "cpu", ARCHITECTURES))


def test_every_architecture_has_a_sketch_of_bounded_size(build_model: Build, kind: str) -> None:
    found = sketch_of(build_model(kind))
    assert 9 <= len(found.tensors) <= 64
    assert 128 <= sum(map(len, found.tensors.values())) <= 256
    other = distance(found, sketch_of(build_model(kind, seed=1)))
    assert other is not None and other > 0.5


def test_a_model_of_many_layers_is_sketched_by_some(build_model: Build) -> None:
    deep, deeper = (sketch_of(build_model("llama", num_hidden_layers=count)) for count in (40, 41))
    assert len(deep.tensors) == 64 and set(map(len, deep.tensors.values())) == {4}
    assert len(deep.tensors.keys() & deeper.tensors.keys()) > 55


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
def test_the_dtype_and_the_shards_of_the_files_make_no_difference(
    build_model: Build, tmp_path: Path, stored: torch.dtype
) -> None:
    model = build_model("llama", tie_word_embeddings=False)
    for parameter in model.parameters():  # values that all three dtypes hold
        parameter.data = (parameter.data * 64).round().clamp(-200, 200) / 64
    model.to(torch.float32).save_pretrained(tmp_path / "plain")
    model.to(stored).save_pretrained(tmp_path / "stored", max_shard_size="20KB")
    assert len(list((tmp_path / "stored").glob("model-*"))) > 1
    assert sketched(tmp_path / "stored") == sketched(tmp_path / "plain")


def test_a_tied_head_saved_as_well_makes_no_difference_and_an_untied_one_hides_nothing(
    build_model: Build, saved: Callable[..., Path]
) -> None:
    tied = saved(build_model("llama", tie_word_embeddings=True))
    before = sketched(tied)
    tensors = load_file(tied / "model.safetensors")
    head = tensors["model.embed_tokens.weight"].clone()
    save_file({**tensors, "lm_head.weight": head}, tied / "model.safetensors", {"format": "pt"})
    assert sketched(tied) == before
    untied = build_model("llama", tie_word_embeddings=False)
    untied.load_state_dict({**tensors, "lm_head.weight": head})
    assert distance(before, sketched(saved(untied))) == 0


def test_noise_is_a_near_copy_and_training_is_not(build_model: Build) -> None:
    base, noisy, tuned = (build_model("llama") for _ in range(3))
    draw = torch.Generator().manual_seed(0)
    for parameter in noisy.parameters():
        parameter.data.mul_(1 + 0.001 * torch.randn(parameter.shape, generator=draw))
    tuned.requires_grad_(True)
    step = torch.optim.AdamW(tuned.parameters(), lr=0.01)
    for _ in range(5):
        tokens = torch.randint(211, (4, 32), generator=draw)
        tuned(input_ids=tokens, labels=tokens).loss.backward()
        step.step()
    near, far = (distance(sketch_of(base), sketch_of(model)) for model in (noisy, tuned))
    assert near is not None and far is not None and 0 < near < NEAR < far < 0.5
    assert sketch_of(base).digest != sketch_of(noisy).digest == sketch_of(noisy).digest


def test_weights_of_nothing_but_zeros_are_equal(build_model: Build) -> None:
    model = build_model("llama")
    for parameter in model.parameters():
        parameter.data.zero_()
    assert distance(sketch_of(model), sketch_of(model)) == 0


def test_the_places_are_the_same_on_any_day() -> None:
    """As the first version took them: another choice makes all records of before incomparable."""
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.arange(600.0).view(20, 30))
    model.empty = torch.nn.Parameter(torch.zeros(0, 3))
    found = sketch_of(model)
    ((key, weights),) = found.tensors.items()
    assert (key, weights[:4], len(weights)) == ("7d2f75a9753a785e", (409.0, 599.0, 165.0, 387.0), 256)
    assert found.digest == "9a72cb944412c6244cef7be32fd0a03de8cf5f6aa86231a274025502f0a42c1d"


def test_a_sketch_of_anything_but_a_few_finite_weights_is_refused(build_model: Build) -> None:
    good = sketch_of(build_model("llama"))
    for tensors, told in (
        ({"a": (math.nan,)}, "not finite"),
        ({"a": (math.inf,)}, "not finite"),
        ({"a": (0.0,) * 1_025}, "more than 1024 weights"),
        ({"a": ()}, "one holds none"),
    ):
        with pytest.raises(ValueError, match=told):
            replace(good, tensors=tensors)
    with pytest.raises(ValueError, match="digest is no SHA-256"):
        replace(good, digest="x" * 64)
