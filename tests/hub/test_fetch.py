"""Fetching a model by commit: every reason to refuse, every trouble that is nobody's fault."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faulty_hub import FaultyHub

from sn37.checks.files import check_static
from sn37.competition import Constraints
from sn37.errors import ModelFault
from sn37.hub import Hub
from sn37.submission import ModelId, content_hash, secure_hash

Connect = Callable[..., Hub]
Upload = Callable[..., ModelId]
Allowing = Callable[..., Constraints]

HEAD = b'{"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}'


def head(text: bytes | dict[str, Any], data: bytes = b"\0" * 4, length: int | None = None) -> bytes:
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4], **changes}}


def test_a_model_arrives_with_its_hash_and_figures(
    connect: Connect, upload: Upload, constraints: Allowing, hotkey: str
) -> None:
    model = upload({"README.md": b"not the model's", "notes/readme.txt": b"neither", "old/config.json": b"{}"})
    with connect().fetch_model(model, hotkey, constraints()) as fetched:
        assert secure_hash(fetched.content_hash, hotkey) == model.hash
        assert content_hash(fetched.folder) == fetched.content_hash
        here = sorted(p.relative_to(fetched.folder).as_posix() for p in fetched.folder.rglob("*") if p.is_file())
        assert here == sorted(fetched.files)
        assert "README.md" not in here
        assert "old/config.json" in here, "the protocol counts a file by its name, in any folder"
        assert fetched.report.parameters == 8 * 16 + 16
        assert fetched.report.architecture == "LlamaForCausalLM"
        assert fetched.bytes == sum((fetched.folder / path).stat().st_size for path in here)


def test_the_legacy_form_carries_the_plain_content_hash(
    connect: Connect, upload: Upload, constraints: Allowing, tmp_path: Path, hotkey: str
) -> None:
    model = upload()
    legacy = replace(model, hash=content_hash(tmp_path / "made-0"), competition_id=None)
    assert connect().fetch_model(legacy, hotkey, constraints()).content_hash == legacy.hash


def test_another_hotkey_cannot_use_the_hash(connect: Connect, upload: Upload, constraints: Allowing) -> None:
    with pytest.raises(ModelFault, match="do not match the hash"):
        connect().fetch_model(upload(), "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty", constraints())


INDEX = {
    "metadata": {},
    "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
}
SHARDS: dict[str, Any] = {
    "model.safetensors": None,
    "model.safetensors.index.json": INDEX,
    "model-00001-of-00002.safetensors": head(tensor()),
    "model-00002-of-00002.safetensors": head({"b": tensor()["a"]}),
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "pickle": ({"pytorch_model.bin": b"\x80\x04N."}, "'pytorch_model.bin' holds weights in another format"),
    "pickle in a folder": ({"a/b/optimizer.pt": b"x"}, "'a/b/optimizer.pt' holds weights in another format"),
    "pickle in capitals": ({"weights.PKL": b"x"}, "'weights.PKL' holds weights in another format"),
    "code": ({"modeling_llama.py": b"import os"}, "'modeling_llama.py' is code"),
    "no weights": ({"model.safetensors": None}, "there are no safetensors weights"),
    "weights in a folder only": (
        {"model.safetensors": None, "sub/model.safetensors": head(tensor())},
        "no safetensors weights at the top",
    ),
    "code of its own": (
        {"config.json": {"architectures": ["LlamaForCausalLM"], "auto_map": {"AutoModel": "x--y.Z"}}},
        "config.json asks for code of its own",
    ),
    "code, deep inside": (
        {"tokenizer_config.json": {"a": [{"b": {"auto_map": {"c": "d"}}}]}},
        "tokenizer_config.json asks",
    ),
    "code from elsewhere": (
        {"config.json": {"architectures": ["LlamaForCausalLM"], "attn_implementation": "someone/kernel"}},
        "asks for code from elsewhere",
    ),
    "quantized": (
        {"config.json": {"architectures": ["LlamaForCausalLM"], "quantization_config": {"bits": 4}}},
        "weights are quantized",
    ),
    "no JSON": ({"config.json": b"{"}, "config.json is no JSON"),
    "JSON too deep": ({"tokenizer_config.json": b"[" * 200_000 + b"]" * 200_000}, "tokenizer_config.json is no JSON"),
    "no config": ({"config.json": None}, "there is no config.json"),
    "no architecture": ({"config.json": {}}, "does not name exactly one architecture"),
    "two architectures": ({"config.json": {"architectures": ["A", "B"]}}, "does not name exactly one"),
    "another architecture": (
        {"config.json": {"architectures": ["GPT2LMHeadModel"]}},
        "'GPT2LMHeadModel' is not allowed",
    ),
    "no safetensors inside": (
        {"model.safetensors": b"\x80\x04\x95" + b"x" * 99},
        "no safetensors file: .*header too large",
    ),
    "empty file": ({"model.safetensors": b""}, "no safetensors file: .*header too small"),
    "head longer than the file": (
        {"model.safetensors": head(HEAD, length=999)},
        "no safetensors file: .*invalid header length",
    ),
    "head no JSON": ({"model.safetensors": head(b"{nope}")}, "no safetensors file: .*invalid JSON in header"),
    "head no object": ({"model.safetensors": head(b"[1]")}, "no safetensors file: .*invalid type: sequence"),
    "heads without end": (
        {
            "model.safetensors": head(
                {f"{i:x}": tensor(shape=[0], data_offsets=[0, 0])["a"] for i in range(80_000)}, b""
            )
        },
        r"the heads of the weights have \d+ bytes; at most 4194304 are allowed",
    ),
    "a folder called as a file": (
        {"added_tokens.json/vocab.txt": b"x"},
        "'added_tokens.json/vocab.txt' lies in a folder that is called as a file",
    ),
    "gap": (
        {"model.safetensors": head(tensor(data_offsets=[2, 6]), b"\0" * 6)},
        "no safetensors file: .*invalid offset",
    ),
    "bytes left over": (
        {"model.safetensors": head(tensor(), b"\0" * 9)},
        "no safetensors file: .*file not fully covered",
    ),
    "wrong length": (
        {"model.safetensors": head(tensor(shape=[3]))},
        "no safetensors file: .*invalid shape, data type, or offset",
    ),
    "negative side": (
        {"model.safetensors": head(tensor(shape=[-2]))},
        "no safetensors file: .*invalid value: integer `-2`",
    ),
    "a side that is true": (
        {"model.safetensors": head(tensor(shape=[True, 2]))},
        "no safetensors file: .*invalid type: boolean",
    ),
    "no safetensors file: .*unknown variant `Q4`": (
        {"model.safetensors": head(tensor(dtype="Q4"))},
        "no safetensors file: .*unknown variant `Q4`",
    ),
    "tensor no object": ({"model.safetensors": head({"a": [1]})}, "no safetensors file: .*invalid type: integer `1`"),
    "shards without index": (
        {**SHARDS, "model.safetensors.index.json": None},
        "there is no model.safetensors.index.json",
    ),
    "shard missing": (
        {**SHARDS, "model-00002-of-00002.safetensors": None},
        "names the file .*00002.* which is missing",
    ),
    "index leaves the folder": (
        {**SHARDS, "model.safetensors.index.json": {"weight_map": {**INDEX["weight_map"], "c": "../../x"}}},
        r"names the file '../../x', which is missing",
    ),
    "index forgets a tensor": (
        {**SHARDS, "model.safetensors.index.json": {"weight_map": {"a": "model-00001-of-00002.safetensors"}}},
        "does not place the tensor 'b'",
    ),
    "index of nothing": (
        {
            **SHARDS,
            "model.safetensors.index.json": {"weight_map": {**INDEX["weight_map"], "c": INDEX["weight_map"]["a"]}},
        },
        "names the tensor 'c'",
    ),
    "index no map": ({**SHARDS, "model.safetensors.index.json": [1]}, "has no weight_map"),
    "two models": ({**SHARDS, "model.safetensors": head(tensor())}, "both model.safetensors and shards"),
}


@pytest.mark.parametrize(("files", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_a_validator_refuses_a_miner_learns_before_publishing(
    connect: Connect,
    upload: Upload,
    constraints: Allowing,
    tmp_path: Path,
    server: FaultyHub,
    hotkey: str,
    files: dict[str, Any],
    reason: str,
) -> None:
    model = upload(files)
    server.stats.reset()
    with pytest.raises(ModelFault, match=reason) as fetched:
        connect().fetch_model(model, hotkey, constraints())
    with pytest.raises(ModelFault, match=reason) as static:
        check_static(tmp_path / "made-0", constraints())
    assert str(fetched.value) == str(static.value)
    with pytest.raises(ModelFault) as again:
        connect().fetch_model(model, hotkey, constraints())
    assert str(again.value) == str(fetched.value)


def test_shards_with_their_index_are_a_model(
    connect: Connect, upload: Upload, constraints: Allowing, hotkey: str
) -> None:
    fetched = connect().fetch_model(upload(SHARDS), hotkey, constraints())
    assert fetched.report.parameters == 4
    assert len(fetched.files) == 7


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_bytes": 500}, r"the model has \d+ bytes; the competition allows 500"),
        ({"max_parameters": 100}, r"has \d+ parameters; the competition allows 0 to 100"),
        ({"min_parameters": 145}, "has 144 parameters; the competition allows 145 to"),
        ({"architectures": ("MistralForCausalLM",)}, "the competition allows MistralForCausalLM"),
    ],
)
def test_constraints_hold_for_fetched_and_for_cached_models(
    connect: Connect, upload: Upload, constraints: Allowing, hotkey: str, changes: dict[str, Any], reason: str
) -> None:
    model = upload()
    with pytest.raises(ModelFault, match=reason):
        connect().fetch_model(model, hotkey, constraints(**changes))
    connect().fetch_model(model, hotkey, constraints()).close()
    with pytest.raises(ModelFault, match=reason):
        connect().fetch_model(model, hotkey, constraints(**changes))


def test_the_first_reason_in_the_protocols_order_is_the_one(
    connect: Connect, upload: Upload, constraints: Allowing, hotkey: str
) -> None:
    everything = {"config.json": {"architectures": ["GPT2LMHeadModel"]}, "x.bin": b"x"}
    model = replace(upload(everything), hash="A" * 43 + "=")
    with pytest.raises(ModelFault, match="bytes; the competition allows"):
        connect().fetch_model(model, hotkey, constraints(max_bytes=1, max_parameters=1))
    with pytest.raises(ModelFault, match="another format"):
        connect().fetch_model(model, hotkey, constraints(max_parameters=1))
    model = replace(upload({**everything, "x.bin": None}, "miner/next"), hash="A" * 43 + "=")
    with pytest.raises(ModelFault, match="do not match the hash"):
        connect().fetch_model(model, hotkey, constraints(max_parameters=1))
    model = upload({**everything, "x.bin": None}, "miner/last")
    with pytest.raises(ModelFault, match="is not allowed"):
        connect().fetch_model(model, hotkey, constraints(max_parameters=1))


def test_no_weights_are_downloaded_of_a_model_that_is_too_large_or_does_not_match(
    connect: Connect,
    upload: Upload,
    constraints: Allowing,
    safetensors: Callable[..., bytes],
    server: FaultyHub,
    hotkey: str,
) -> None:
    model = upload({"model.safetensors": safetensors({"a": (1000, 1000)})})
    server.stats.reset()
    with pytest.raises(ModelFault, match="bytes; the competition allows"):
        connect().fetch_model(model, hotkey, constraints(max_bytes=1_000_000))
    assert not any("resolve" in path for path in server.stats.paths)
    with pytest.raises(ModelFault, match="do not match the hash"):
        connect().fetch_model(replace(model, hash="A" * 43 + "="), hotkey, constraints())
    assert server.stats.bytes_sent < 100_000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"commit": "0" * 40}, "has no commit 0000"),
        ({"name": "other"}, "the repo miner/other does not exist"),
        ({"commit": None}, "names no commit"),
        ({"hash": None}, "carries no hash"),
    ],
)
def test_a_repo_or_commit_that_is_not_there_is_the_miners_fault(
    connect: Connect, upload: Upload, constraints: Allowing, hotkey: str, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelFault, match=reason):
        connect().fetch_model(replace(upload(), **change), hotkey, constraints())


@pytest.mark.parametrize("user", [None, "validator", "miner"])
def test_a_private_repo_is_refused_to_everybody_alike(
    connect: Connect, upload: Upload, constraints: Allowing, hotkey: str, user: str | None
) -> None:
    model = upload(private=True)
    with pytest.raises(ModelFault, match="does not exist, or is not public"):
        connect(user).fetch_model(model, hotkey, constraints())
    if user == "miner":
        assert connect(user).fetch_model(model, hotkey, constraints(), private_too=True).files


def test_a_branch_cannot_pass_for_a_commit(
    connect: Connect, upload: Upload, constraints: Allowing, api: Callable[[str], Any], hotkey: str
) -> None:
    model = upload()
    api("miner").create_branch("miner/model", branch="ab" * 20)
    with pytest.raises(ModelFault, match="names something else than a commit"):
        connect().fetch_model(replace(model, commit="ab" * 20), hotkey, constraints())
