"""A stranger's tokenizer is its `tokenizer.json`, its special tokens and its template, and nothing else of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sn37.checks.tokenizer import byte_tokenizer, load_tokenizer
from sn37.errors import ModelFault

TEXTS = ("", "plain", "  two  spaces ", "Köln — 3,50 €", "\n\ttabs", "日本語", "\x00\x7f", "🦊" * 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    byte_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, name: str, **fields: Any) -> Path:
    path = folder / name
    data = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**data, **fields}))
    return folder


def test_bytes_come_back_as_they_were(folder: Path) -> None:
    for tokenizer in (byte_tokenizer(), load_tokenizer(folder)):
        for text in TEXTS:
            tokens = tokenizer.encode(text, add_special_tokens=False)
            assert len(tokens) == len(text.encode()) and max(tokens, default=0) <= 256
            assert tokenizer.decode(tokens, clean_up_tokenization_spaces=False) == text
        assert tokenizer.eos_token_id == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"eos_token": "b"},
        {"eos_token": {"content": "b", "lstrip": False, "normalized": False, "special": True}},
        {"eos_token": "b", "additional_special_tokens": [{"content": "c", "special": True}, "d"]},
        {"eos_token": "b", "extra_special_tokens": ["c"]},
    ],
)
def test_special_tokens_are_taken_however_they_are_written(folder: Path, fields: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(change(folder, "tokenizer_config.json", **fields))
    assert tokenizer.eos_token == "b"


OPTIONS = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
TURNS = {"<|im_start|>": 257, "<|im_end|>": 258}


@pytest.mark.parametrize(
    ("files", "fields"),
    [
        ({"added_tokens.json": TURNS}, {}),
        ({}, {"added_tokens_decoder": {str(i): {"content": name, **OPTIONS} for name, i in TURNS.items()}}),
        ({"added_tokens.json": dict(reversed(TURNS.items()))}, {"additional_special_tokens": ["<|im_start|>"]}),
    ],
)
def test_added_tokens_have_the_ids_that_the_other_files_give_them(
    folder: Path, files: dict[str, Any], fields: dict[str, Any]
) -> None:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    tokenizer = load_tokenizer(change(folder, "tokenizer_config.json", eos_token="<|im_end|>", **fields))
    assert tokenizer.eos_token_id == 258
    assert tokenizer.encode("<|im_start|>a<|im_end|>", add_special_tokens=False)[::2] == [257, 258]


@pytest.mark.parametrize(
    ("files", "fields", "reason"),
    [
        ({}, {"eos_token": "<|im_end|>"}, "'<|im_end|>' has an id in none"),
        ({}, {"pad_token": "[PAD]"}, r"'\[PAD\]' has an id in none"),
        ({}, {"additional_special_tokens": ["<|user|>"]}, "'<|user|>' has an id in none"),
        ({}, {"extra_special_tokens": {"image_token": "<image>"}}, "'<image>' has an id in none"),
        ({"added_tokens.json": {"<|im_end|>": 300}}, {}, "has the id 300 in one file and 257"),
        ({"added_tokens.json": {"a": 5}}, {}, "'a' has the id 5 in one file and"),
        ({"added_tokens.json": {"a": "five"}}, {}, "added tokens cannot be read"),
        ({"added_tokens.json": [1]}, {}, "added_tokens.json holds no JSON object"),
        ({}, {"added_tokens_decoder": [1]}, "added tokens cannot be read"),
        ({}, {"added_tokens_decoder": {"257": "x"}}, "added tokens cannot be read"),
        ({}, {"added_tokens_decoder": {"257": {"content": 3}}}, "added tokens cannot be read"),
    ],
)
def test_a_special_token_is_never_invented(
    folder: Path, files: dict[str, Any], fields: dict[str, Any], reason: str
) -> None:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    with pytest.raises(ModelFault, match=reason.replace("|", r"\|")):
        load_tokenizer(change(folder, "tokenizer_config.json", **fields))


def test_the_template_s_own_file_counts(folder: Path) -> None:
    change(folder, "tokenizer_config.json", chat_template="first")
    assert load_tokenizer(folder).chat_template == "first"
    (folder / "chat_template.jinja").write_text("second")
    assert load_tokenizer(folder).chat_template == "second"


@pytest.mark.parametrize(
    "fields",
    [
        {"tokenizer_class": "NoSuchTokenizer"},
        {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}},
        {"tokenizer_file": "/etc/passwd", "vocab_file": "/etc/passwd", "name_or_path": "https://example.org"},
        {"gguf_file": "model.gguf"},
        {"padding_side": "left", "truncation_side": "left", "stride": 3},
        {"backend": "no such", "tokenizer_object": {}},
    ],
)
def test_other_settings_have_no_effect(folder: Path, fields: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(change(folder, "tokenizer_config.json", **fields))
    assert tokenizer.encode("abc", add_special_tokens=False) == byte_tokenizer().encode("abc")


def test_nothing_is_cut_off_filled_up_or_left_to_chance(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 50},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|end|>",
    }
    content["model"]["merges"] = [["a", "b"]]
    content["model"]["vocab"]["ab"] = 257
    content["model"]["dropout"] = 0.5
    (folder / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = load_tokenizer(folder)
    found = {tuple(tokenizer.encode("abab" * 10, add_special_tokens=False)) for _ in range(20)}
    assert found == {(257,) * 20}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("tokenizer.json", "", "does not load"),
        ("tokenizer.json", "{}", "does not load"),
        ("tokenizer.json", "[" * 10_000, "does not load"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}', "does not load"),
        ("tokenizer_config.json", "[]", r"tokenizer_config\.json holds no JSON object"),
        ("tokenizer_config.json", "{", r"tokenizer_config\.json holds no JSON object"),
        ("tokenizer_config.json", "[" * 100_000, r"tokenizer_config\.json holds no JSON object"),
        ("special_tokens_map.json", "3", r"special_tokens_map\.json holds no JSON object"),
        ("tokenizer_config.json", '{"chat_template": {"a": 1}}', "chat template"),
        ("tokenizer_config.json", '{"eos_token": 7}', "does not load"),
        ("tokenizer_config.json", '{"model_max_length": "long", "bos_token": ["a"]}', "does not load"),
    ],
)
def test_a_tokenizer_that_is_none_is_a_fault_of_the_model(folder: Path, name: str, text: str, reason: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ModelFault, match=reason):
        load_tokenizer(folder)


def named(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "template": f"{name}: {{{{ messages[0].content }}}}"} for name in names]


def test_of_named_templates_the_default_one_counts(folder: Path) -> None:
    change(folder, "tokenizer_config.json", chat_template=named("tool_use", "default"))
    template = load_tokenizer(folder).chat_template
    assert isinstance(template, dict) and template["default"].startswith("default: ")


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (named("rag", "tool_use"), "the chat templates are named rag, tool_use; expected one named default"),
        ([], "the chat templates are named not at all; expected one named default"),
        (["default"], "neither a text nor a list of named ones"),
        ([{"name": "default", "template": 3}], "neither a text nor a list of named ones"),
        (3, "neither a text nor a list of named ones"),
    ],
)
def test_templates_without_a_default_are_told(folder: Path, template: object, told: str) -> None:
    change(folder, "tokenizer_config.json", chat_template=template)
    with pytest.raises(ModelFault, match=told):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_a_file_of_endless_size_is_not_read(folder: Path, name: str) -> None:
    with (folder / name).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelFault, match="larger than"):
        load_tokenizer(folder)


def test_a_template_that_is_no_text_is_a_fault(folder: Path) -> None:
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelFault, match="not UTF-8"):
        load_tokenizer(folder)


def test_a_missing_tokenizer_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match=r"tokenizer\.json is missing"):
        load_tokenizer(tmp_path)
