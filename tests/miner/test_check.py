"""The checks a miner makes before publishing are the validator's."""

import json
import re
from dataclasses import replace

import pytest

from sn37.errors import ConfigError, DataFault, ModelFault
from sn37.miner.check import check, check_folder
from sn37.submission import content_hash


def constrained(competition, **changes):
    return replace(competition, constraints=replace(competition.constraints, **changes))


def refused(found, reason):
    assert not found
    assert re.search(reason, "; ".join(map(str, found.reasons))), found
    with pytest.raises(ModelFault, match=reason):
        found.raise_fault()


def test_a_model_that_fits_is_described(model, competition):
    found = check(model, competition)
    assert found.architecture == "LlamaForCausalLM"
    assert found.content_hash == content_hash(model)
    assert found.bytes == sum(path.stat().st_size for path in model.iterdir())
    # embedding and head 10 x 16 each, four attention matrices, three MLP ones of 32, three norms
    assert found.parameters == 2 * 160 + 4 * 16 * 16 + 3 * 16 * 32 + 3 * 16
    assert 0 < found.norm < 200
    assert "fits TINY" in str(found) and "fits TINY" in found._repr_html_()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_bytes": 1_000}, "bytes"),
        ({"architectures": ("PhiForCausalLM",)}, "LlamaForCausalLM"),
        ({"max_parameters": 1_000}, "parameters"),
        ({"min_parameters": 50_000}, "parameters"),
        ({"norm_soft": 0.5, "norm_hard": 1.0}, "norm"),
    ],
)
def test_a_model_outside_the_constraints_is_refused_with_the_reason(model, competition, changes, reason):
    refused(check(model, constrained(competition, **changes)), reason)


def test_weights_that_are_not_finite_are_refused(model, competition):
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    refused(check(model, competition), "not all finite")


def test_a_tokenizer_with_more_words_than_the_model_is_refused(model, competition):
    file = model / "tokenizer.json"
    data = json.loads(file.read_text())
    data["model"]["vocab"]["dog"] = 10
    file.write_text(json.dumps(data))
    refused(check(model, competition), "11 tokens")


def test_what_publishing_does_not_send_is_not_judged(model, competition):
    before = check(model, competition)
    (model / "checkpoint").mkdir()
    (model / "checkpoint" / "config.json").write_text("{}")
    for name in ("training_args.bin", "train.py", "pytorch_model.bin", "README.md"):
        (model / name).write_bytes(b"x")
    assert check(model, competition) == before


def test_links_are_sent_as_the_files_they_lead_to(model, competition, tmp_path):
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for path in model.iterdir():
        (linked / path.name).symlink_to(path)
    assert check(linked, competition).content_hash == content_hash(model)


def test_the_competitions_own_tokenizer_is_the_one_that_counts(outside, model, competition, tokenizer, tmp_path):
    hub = outside.hub()
    for name, words in (("fits", 10), ("larger", 12)):
        folder = tmp_path / name
        tokenizer.save_pretrained(folder)
        data = json.loads((folder / "tokenizer.json").read_text())
        data["model"]["vocab"] |= {f"word{i}": i for i in range(10, words)}
        (folder / "tokenizer.json").write_text(json.dumps(data))
        for file in folder.iterdir():
            hub.publish_file(f"alice/{name}", file.name, file.read_bytes())
    for path in model.glob("*token*"):
        path.unlink()  # a competition that fixes the tokenizer needs none of the model's
    assert check_folder(model, constrained(competition, tokenizer="alice/fits"), lambda: hub)
    refused(
        check_folder(model, constrained(competition, tokenizer="alice/larger"), lambda: hub),
        "12 tokens; the model knows 10",
    )
    with pytest.raises(DataFault, match="alice/none is not there"):
        check_folder(model, constrained(competition, tokenizer="alice/none"), lambda: hub)


def test_tensors_that_the_model_does_not_use_are_named(model, competition):
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    extra = {f"model.layers.{i}.mlp.up_proj.weight": weights["model.norm.weight"].clone() for i in (1, 2)}
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": weights["model.norm.weight"].clone()}
    save_file(weights | extra | buffer, model / "model.safetensors", {"format": "pt"})
    found = check(model, competition)
    assert found.unexpected == tuple(sorted(extra))
    assert "2 tensors are not used, the first is 'model.layers.1.mlp.up_proj.weight'" in str(found)


def test_a_tied_head_that_is_saved_as_well_counts_once(model, competition):
    from safetensors.torch import load_file, save_file

    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    weights = load_file(model / "model.safetensors")
    save_file(
        {**weights, "lm_head.weight": weights["model.embed_tokens.weight"].clone()},
        model / "model.safetensors",
        {"format": "pt"},
    )
    found = check(model, competition)
    held = sum(weight.numel() for weight in weights.values())
    assert found.parameters == held - 160
    assert check(model, constrained(competition, max_parameters=found.parameters)) == found
    refused(
        check(model, constrained(competition, max_parameters=found.parameters - 1)),
        f"has {found.parameters} parameters",
    )


def test_a_single_file_beside_its_index_is_one_model(model, competition):
    from safetensors.torch import load_file

    before = check(model, competition)
    places = dict.fromkeys(load_file(model / "model.safetensors"), "model.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert check(model, competition).parameters == before.parameters


def test_a_missing_folder_is_named(tmp_path, competition):
    with pytest.raises(ConfigError, match="nowhere is no model; expected a folder with"):
        check(tmp_path / "nowhere", competition)


def test_every_reason_is_told_with_what_to_do_about_it(model, competition):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.py"}}))
    tokenizer = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "auto_map": {"AutoTokenizer": ["x.py"]}}))
    found = check(model, constrained(competition, max_bytes=1_000, architectures=("Phi3ForCausalLM",)))
    told = [reason.told for reason in found.reasons]
    assert [text.split()[0] for text in told] == ["the", "config.json", "tokenizer_config.json", "the"]
    assert "bytes" in told[0] and "'auto_map'" in told[1] and "LlamaForCausalLM" in told[3]
    assert all(reason.advice for reason in found.reasons)
    assert "delete that key from the file" in str(found) and "delete that key" in found._repr_html_()
