"""The checks a miner makes before publishing are the validator's."""

import json
from dataclasses import replace

import pytest

from sn37.errors import ModelFault
from sn37.miner import preflight
from sn37.submission import content_hash


def constrained(competition, **changes):
    return replace(competition, constraints=replace(competition.constraints, **changes))


def test_a_model_that_fits_is_described(model, competition):
    found = preflight(model, competition)
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
    with pytest.raises(ModelFault, match=reason):
        preflight(model, constrained(competition, **changes))


def test_weights_that_are_not_finite_are_refused(model, competition):
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFault, match="not all finite"):
        preflight(model, competition)


def test_a_tokenizer_with_more_words_than_the_model_is_refused(model, competition):
    file = model / "tokenizer.json"
    data = json.loads(file.read_text())
    data["model"]["vocab"]["dog"] = 10
    file.write_text(json.dumps(data))
    with pytest.raises(ModelFault, match="11 tokens"):
        preflight(model, competition)


def test_a_model_in_a_sub_folder_is_no_part_of_what_is_published(model, competition):
    (model / "checkpoint").mkdir()
    (model / "checkpoint" / "config.json").write_text("{}")
    with pytest.raises(ModelFault, match=r"checkpoint/config\.json lies in a sub-folder"):
        preflight(model, competition)


def test_a_missing_folder_is_named(tmp_path, competition):
    with pytest.raises(ModelFault, match="nowhere"):
        preflight(tmp_path / "nowhere", competition)
