"""A hub of one's own, clients to it, and tiny models made by hand."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from faulty_hub import FaultyHub

from sn37.competition import Constraints
from sn37.hub import Hub
from sn37.submission import ModelId, content_hash, secure_hash

HOTKEY = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
CONFIG = {
    **{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 8, "hidden_size": 4},
    **{"intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1},
}


class Time:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = datetime(2025, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, hours: float) -> datetime:
        self.now += timedelta(hours=hours)
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def server(tmp_path: Path, time: Time) -> Iterator[FaultyHub]:
    with FaultyHub(tmp_path / "hub", clock=time) as server:
        yield server


@pytest.fixture
def connect(server: FaultyHub, tmp_path: Path) -> Callable[..., Hub]:
    """A client: of a user, or of nobody."""

    def connect(user: str | None = None, **options: Any) -> Hub:
        options = {"cache": tmp_path / "cache", "first_wait_s": 0.0, "timeout_s": 10, **options}
        return Hub(server.endpoint, server.token_of(user) if user else None, **options)

    return connect


@pytest.fixture
def api(server: FaultyHub) -> Callable[[str], Any]:
    """huggingface_hub's own client of a user."""
    from huggingface_hub import HfApi

    return lambda user: HfApi(endpoint=server.endpoint, token=server.token_of(user))


def _constraints(**changes: Any) -> Constraints:
    values: dict[str, Any] = {
        "architectures": ("LlamaForCausalLM",),
        "max_parameters": 1_000_000,
        "max_bytes": 10_000_000,
        "sequence_length": 64,
        "tokenizer": None,
        "delay_blocks": 0,
    }
    return Constraints(**{**values, **changes})


def _safetensors(tensors: Mapping[str, Sequence[int]], fill: int = 0, dtype: str = "BF16") -> bytes:
    """A safetensors file of two-byte numbers, written by hand."""
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in tensors.items():
        size = 2
        for side in shape:
            size *= side
        head[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + bytes([fill]) * position


def _write_model(folder: Path, files: Mapping[str, bytes | dict[str, Any] | None] | None = None) -> Path:
    """A folder that passes all static checks, with some files replaced, or left out (None)."""
    contents: dict[str, bytes | dict[str, Any] | None] = {
        "config.json": CONFIG,
        "generation_config.json": {},
        "tokenizer.json": {"version": "1.0"},
        "tokenizer_config.json": {"model_max_length": 64},
        "model.safetensors": _safetensors({"a.weight": (8, 16), "b.weight": (16,)}),
        **(files or {}),
    }
    for name, content in contents.items():
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


@pytest.fixture
def upload(api: Callable[[str], Any], tmp_path: Path) -> Callable[..., ModelId]:
    """Push a folder as its owner made it, whatever is in it, with the hash of its protocol files."""

    def upload(files: Mapping[str, Any] | None = None, repo: str = "miner/model", **options: Any) -> ModelId:
        number = len(list(tmp_path.glob("made-*")))
        folder = _write_model(tmp_path / f"made-{number}", files)
        client = api(repo.split("/")[0])
        client.create_repo(repo, private=options.pop("private", False), exist_ok=True)
        commit = client.upload_folder(repo_id=repo, folder_path=folder).oid
        namespace, name = repo.split("/")
        return ModelId(namespace, name, commit, secure_hash(content_hash(folder), HOTKEY), 1)

    return upload


@pytest.fixture
def hotkey() -> str:
    return HOTKEY


@pytest.fixture
def config() -> dict[str, Any]:
    return dict(CONFIG)


@pytest.fixture
def constraints() -> Callable[..., Constraints]:
    """Constraints that the hand-made model meets, with some changed."""
    return _constraints


@pytest.fixture
def safetensors() -> Callable[..., bytes]:
    return _safetensors


@pytest.fixture
def write_model() -> Callable[..., Path]:
    return _write_model
