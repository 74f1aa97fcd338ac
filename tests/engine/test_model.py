"""Only what a submission may be is loaded, exactly as it was saved, and everything else has its reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sn37.competition import ARCHITECTURES
from sn37.engine.model import load
from sn37.errors import ModelFault

Save = Callable[..., Path]


def rewrite(folder: Path, name: str = "config.json", **changes: Any) -> Path:
    """Change fields of a JSON file; None removes one."""
    data = {**json.loads((folder / name).read_text()), **changes}
    (folder / name).write_text(json.dumps({key: value for key, value in data.items() if value is not None}))
    return folder


def test_a_saved_model_loads_as_it_was(model_of: Callable[[str], Any], kind: str, saved: Save) -> None:
    model = model_of(kind)
    loaded = load(saved(model), "float32", "cpu", ARCHITECTURES)
    ids = torch.arange(3, 60)[None]
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


def test_the_dtype_is_the_one_asked_for(saved: Save) -> None:
    assert load(saved("llama"), "bfloat16", "cpu", ARCHITECTURES).dtype == torch.bfloat16


def test_a_sharded_model_loads(model_of: Callable[[str], Any], tmp_path: Path) -> None:
    model_of("llama").save_pretrained(tmp_path / "m", max_shard_size="20KB")
    assert len(list((tmp_path / "m").glob("model-*-of-*.safetensors"))) > 1
    loaded = load(tmp_path / "m", "float32", "cpu", ARCHITECTURES)
    assert torch.equal(loaded.lm_head.weight, model_of("llama").lm_head.weight)


def test_no_token_sees_a_later_one(model_of: Callable[[str], Any], kind: str) -> None:
    ids = torch.arange(3, 43)[None]
    other = ids.clone()
    other[0, 25:] = 99
    first, second = (model_of(kind)(input_ids=x).logits[0, :25] for x in (ids, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": None}, "exactly one"),
        ({"architectures": []}, "exactly one"),
        ({"architectures": ["LlamaForCausalLM", "GemmaForCausalLM"]}, "exactly one"),
        ({"architectures": [{"a": 1}]}, "exactly one"),
        ({"architectures": ["GPT2LMHeadModel"]}, "not allowed"),
        ({"architectures": ["../../x"]}, "not allowed"),
        ({"architectures": ["GemmaForCausalLM"]}, "model_type"),
        ({"model_type": "gemma"}, "model_type"),
        ({"auto_map": {"AutoModelForCausalLM": "code.Model"}}, "auto_map"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "quantization_config"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"hidden_size": "large"}, "hidden_size is 'large'; expected a whole number from 1 to"),
        ({"hidden_size": 64}, "other shapes"),
        ({"intermediate_size": 10**12}, "intermediate_size is 10+; expected"),
        ({"num_key_value_heads": 0}, "num_key_value_heads is 0; expected"),
        ({"head_dim": 0}, "head_dim is 0; expected"),
        ({"pad_token_id": 10**6}, "load"),
        ({"num_key_value_heads": 3}, "shapes"),
        ({"intermediate_size": 10**5}, "other shapes"),
        ({"num_hidden_layers": 3}, "missing"),
        ({"num_hidden_layers": 10**9}, "layers"),
        ({"num_hidden_layers": -1}, "layers"),
        ({"vocab_size": 300}, "other shapes"),
        ({"vocab_size": 10**11}, "vocab_size is 10+; expected"),
        ({"vocab_size": 10**7}, "other shapes"),
        ({"hidden_act": "os.system"}, "load|config"),
        ({"rope_scaling": {"rope_type": "no such"}}, "rope_parameters.rope_type is 'no such'; expected one of"),
        ({"rope_scaling": {"rope_type": "linear"}}, "config|run"),
    ],
)
def test_a_config_that_may_not_be_is_a_fault_of_the_model(saved: Save, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelFault, match=reason):
        load(rewrite(saved("llama"), **changes), "float32", "cpu", ARCHITECTURES)


@pytest.mark.parametrize(
    "changes",
    [
        {"transformers_weights": "/etc/passwd"},
        {"attn_implementation": "kernels-community/flash-attn"},
        {"_attn_implementation": "flash_attention_2"},
        {"torch_dtype": "float16"},
        {"dtype": "no such"},
        {"name_or_path": "https://example.org/model"},
        {"fusion_config": {"a": 1}},
        {"kernel_config": {"a": 1}},
        {"output_hidden_states": True, "return_dict": False, "output_attentions": True},
        {"chunk_size_feed_forward": 3},
        {"per_layer_config": {"0": {"hidden_size": 2}}},
        {"num_beams": 7, "temperature": -1},
        {"is_causal": False},
    ],
)
def test_fields_foreign_to_the_architecture_have_no_effect(
    build_model: Callable[..., Any], saved: Save, changes: dict[str, Any]
) -> None:
    model = build_model("llama")
    loaded = load(rewrite(saved(model), **changes), "float32", "cpu", ARCHITECTURES)
    ids = torch.arange(3, 30)[None]
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert loaded(input_ids=ids).hidden_states is None


def test_generation_settings_of_the_model_are_never_read(saved: Save) -> None:
    folder = saved("llama")
    (folder / "generation_config.json").write_text("{")
    assert load(folder, "float32", "cpu", ARCHITECTURES).generation_config.eos_token_id is not None


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, '{"a":' * 100_000, "\ufeff\x00"])
def test_a_config_that_is_no_object_is_a_fault_of_the_model(saved: Save, text: str) -> None:
    folder = saved("llama")
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelFault, match=r"config\.json"):
        load(folder, "float32", "cpu", ARCHITECTURES)


def test_a_config_of_endless_size_is_not_read(saved: Save) -> None:
    folder = saved("llama")
    with (folder / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelFault, match="larger than"):
        load(folder, "float32", "cpu", ARCHITECTURES)


def test_weights_that_are_no_safetensors_are_a_fault_of_the_model(saved: Save) -> None:
    folder = saved("llama")
    torch.save({"a": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(ModelFault, match="no safetensors"):
        load(folder, "float32", "cpu", ARCHITECTURES)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelFault, match="no safetensors weights"):
        load(folder, "float32", "cpu", ARCHITECTURES)


def test_cut_off_weights_are_a_fault_of_the_model(saved: Save) -> None:
    folder = saved("llama")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelFault, match="no safetensors"):
        load(folder, "float32", "cpu", ARCHITECTURES)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop("model.norm.weight"), r"missing.*model\.norm\.weight"),
        (lambda tensors: tensors.update({"model.norm.weight": torch.ones(31)}), "mismatched|load"),
        (lambda tensors: tensors.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)}), "expected a float"),
        (
            lambda tensors: tensors.update({"model.norm.weight": torch.ones(32).to(torch.float8_e4m3fn)}),
            "expected a float",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_a_fault_of_the_model(
    saved: Save, change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    folder = saved("llama")
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFault, match=reason):
        load(folder, "float32", "cpu", ARCHITECTURES)


@pytest.mark.parametrize(
    "place",
    ["/etc/passwd", "../other/model-00001-of-00002.safetensors", "model.bin", "model-9-of-9.safetensors", "", 3],
)
def test_an_index_names_only_files_of_the_model(model_of: Callable[[str], Any], tmp_path: Path, place: Any) -> None:
    for name in ("m", "other"):
        model_of("llama").save_pretrained(tmp_path / name, max_shard_size="20KB")
    index = json.loads((tmp_path / "m/model.safetensors.index.json").read_text())
    index["weight_map"]["model.norm.weight"] = place
    (tmp_path / "m/model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelFault, match=r"index\.json"):
        load(tmp_path / "m", "float32", "cpu", ARCHITECTURES)


def test_one_tensor_in_two_files_is_a_fault_of_the_model(model_of: Callable[[str], Any], tmp_path: Path) -> None:
    model_of("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    first, second, *_ = sorted(tmp_path.glob("model-*-of-*.safetensors"))
    save_file({**load_file(second), **load_file(first)}, second, {"format": "pt"})
    with pytest.raises(ModelFault, match="more than one file"):
        load(tmp_path, "float32", "cpu", ARCHITECTURES)


def test_two_sets_of_weights_are_a_fault_of_the_model(saved: Save) -> None:
    folder = saved("llama")
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00001.safetensors")
    with pytest.raises(ModelFault, match="which of them is the model is unclear"):
        load(folder, "float32", "cpu", ARCHITECTURES)


def test_an_index_beside_a_single_file_speaks_of_that_file_or_is_refused(saved: Save) -> None:
    folder = saved("llama")
    places = dict.fromkeys(load_file(folder / "model.safetensors"), "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert load(folder, "float32", "cpu", ARCHITECTURES)
    places["model.norm.weight"] = "model-00001-of-00001.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ModelFault, match="which is missing"):
        load(folder, "float32", "cpu", ARCHITECTURES)
