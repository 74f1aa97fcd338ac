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
        {"eos_token": "b", "additional_special_tokens": [{"content": "<|user|>", "special": True}, "<|bot|>"]},
        {"eos_token": "b", "extra_special_tokens": ["<|user|>"]},
    ],
)
def test_special_tokens_are_taken_however_they_are_written(folder: Path, fields: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(change(folder, "tokenizer_config.json", **fields))
    assert tokenizer.eos_token == "b"


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
