"""What can be said of a model without loading it: its files, its configuration, its safetensors heads.

Protocol, section 7, from "bytes within the limit" to "architecture named in config", and the
parameter count as the heads have it. Nothing is unpickled and no code is run or looked up. Whether
the weights load, are finite and keep the norms is the engine's to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from sn37.checks.safetensors_head import FLOATS, Tensor, read_head
from sn37.competition import Constraints
from sn37.errors import ModelFault
from sn37.submission import is_model_file

__all__ = [
    "StaticReport",
    "carries_code",
    "check_files",
    "check_no_code",
    "check_parameters",
    "check_size",
    "check_static",
    "is_weights",
    "joined_heads",
    "loaded",
    "read_config",
    "read_json",
    "safe_path",
]

_FOREIGN_SUFFIXES = (
    *(".bin", ".ckpt", ".dill", ".gguf", ".ggml", ".h5", ".hdf5", ".joblib", ".keras", ".mar", ".mlmodel", ".msgpack"),
    *(".npy", ".npz", ".onnx", ".pb", ".pickle", ".pkl", ".pt", ".pt2", ".pth", ".tflite"),
)
"""Weights in another format than safetensors; most of them can carry code."""
_CODE_SUFFIXES = (".bat", ".dll", ".dylib", ".exe", ".ipynb", ".jar", ".py", ".pyc", ".pyd", ".pyx", ".sh", ".so")
_CODE_KEYS = frozenset(("auto_map", "custom_generate", "custom_pipelines", "trust_remote_code"))
_JSON_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]{1,255}")
_INDEX = "model.safetensors.index.json"
_MAX_JSON_BYTES = 16 << 20
_MAX_MODEL_FILES = 512


@dataclass(frozen=True)
class StaticReport:
    """What a look at the files tells. parameters: numbers in floating-point tensors; dtypes: of those, by type."""

    architecture: str
    parameters: int
    dtypes: Mapping[str, int]
    bytes: int
    files: tuple[str, ...]


def check_static(folder: Path, constraints: Constraints) -> StaticReport:
    """Check a folder as a validator would, before publishing or after fetching.

    Raises ModelFault with the first reason, in the protocol's order.
    """
    sizes = _sizes(folder)
    model = {path: size for path, size in sizes.items() if is_model_file(path)}
    check_size(model, constraints)
    check_files(sizes)
    check_no_code(folder)
    heads = _check_heads(folder, model)
    architecture = read_config(folder, constraints)
    dtypes = check_parameters(heads, constraints)
    return StaticReport(architecture, sum(dtypes.values()), dtypes, sum(model.values()), tuple(model))


def check_size(sizes: Mapping[str, int], constraints: Constraints) -> None:
    """sizes: bytes of each of the model's files. Raises ModelFault where together they are too many."""
    total = sum(sizes.values())
    if total > constraints.max_bytes:
        raise ModelFault(f"the model has {total} bytes; the competition allows {constraints.max_bytes}")


def check_files(paths: Iterable[str]) -> None:
    """paths: every file of the repo. Raises ModelFault unless the weights are safetensors, without code."""
    paths = list(paths)
    for path in paths:
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in _FOREIGN_SUFFIXES:
            raise ModelFault(f"{path!r} holds weights in another format; only safetensors are allowed")
        if suffix in _CODE_SUFFIXES:
            raise ModelFault(f"{path!r} is code; a model must come without any")
        if is_model_file(path) and not safe_path(path):
            raise ModelFault(f"{path!r} is no plain path of a file")
    count = sum(is_model_file(path) for path in paths)
    if count > _MAX_MODEL_FILES:
        raise ModelFault(f"the model has {count} files; at most {_MAX_MODEL_FILES} are allowed")
    if not any(is_weights(path) for path in paths):
        raise ModelFault("there are no safetensors weights: neither model.safetensors nor model-*-of-*.safetensors")


def check_no_code(folder: Path) -> None:
    """Raises ModelFault where a configuration asks for code, or for weights that are quantized."""
    for path in sorted(folder.rglob("*.json")):
        if path.name in _JSON_FILES:
            name = path.relative_to(folder).as_posix()
            _check_keys(read_json(path, name), name)


def _check_keys(data: Any, name: str) -> None:
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in _CODE_KEYS and inner:
                    raise ModelFault(f"{name} asks for code of its own ({key!r}); no such code is ever run")
                if key.endswith("_implementation") and isinstance(inner, str) and "/" in inner:
                    raise ModelFault(f"{name} asks for code from elsewhere ({key!r}); no such code is ever run")
                if key == "quantization_config" and inner:
                    raise ModelFault(
                        f"{name} says the weights are quantized; plain floating-point weights are expected"
                    )
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _check_heads(folder: Path, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The tensors of all weight files. Raises ModelFault: a malformed head, a shard missing or unnamed.

    sizes: the model's files (only their names matter here).
    """
    heads: dict[str, dict[str, Tensor]] = {}
    for name in sorted(path for path in sizes if loaded(path)):
        try:
            heads[name] = read_head(folder / name)
        except ValueError as error:
            raise ModelFault(f"{name} is no safetensors file: {error}") from None
    return joined_heads(folder, heads)


def joined_heads(folder: Path, heads: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """All tensors of the weight files, which must agree with the index. Raises ModelFault."""
    if not heads:
        raise ModelFault("there are no safetensors weights at the top of the repo, where they are loaded from")
    single = "model.safetensors" in heads
    if single and len(heads) > 1:
        raise ModelFault("there are both model.safetensors and shards; which of them is the model is unclear")
    index = _weight_map(folder) if (folder / _INDEX).is_file() else None
    if index is None and not single:
        raise ModelFault(f"the weights are in shards, but there is no {_INDEX}")
    joined: dict[str, Tensor] = {}
    for name, tensors in heads.items():
        for tensor in tensors:
            if tensor in joined:
                raise ModelFault(f"the tensor {tensor[:80]!r} is in two files")
            if index is not None and index.get(tensor) != name:
                raise ModelFault(f"{_INDEX} does not place the tensor {tensor[:80]!r} in {name}, where it is")
        joined |= tensors
    for tensor, name in (index or {}).items():
        if name not in heads:
            raise ModelFault(f"{_INDEX} names the file {name[:80]!r}, which is missing")
        if tensor not in joined:
            raise ModelFault(f"{_INDEX} names the tensor {tensor[:80]!r}, which {name} does not hold")
    return joined


def _weight_map(folder: Path) -> dict[str, str]:
    data = read_json(folder / _INDEX, _INDEX)
    weight_map = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ModelFault(f"{_INDEX} has no weight_map from tensors to files")
    return weight_map


def read_config(folder: Path, constraints: Constraints) -> str:
    """The architecture config.json names. Raises ModelFault unless it is one the competition allows."""
    if not (folder / "config.json").is_file():
        raise ModelFault("there is no config.json")
    config = read_json(folder / "config.json", "config.json")
    named = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        raise ModelFault("config.json does not name exactly one architecture")
    if named[0] not in constraints.architectures:
        allowed = ", ".join(constraints.architectures)
        raise ModelFault(f"the architecture {named[0][:80]!r} is not allowed; the competition allows {allowed}")
    return named[0]


def read_json(path: Path, name: str) -> Any:
    """A JSON file of the model. Raises ModelFault where it is too long, nested too deeply or no JSON."""
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ModelFault(f"{name} is longer than {_MAX_JSON_BYTES} bytes")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ModelFault(f"{name} is no JSON that can be read") from None


def check_parameters(heads: Mapping[str, Tensor], constraints: Constraints) -> dict[str, int]:
    """Numbers in the floating-point tensors, by their type. Raises ModelFault: too few, or too many."""
    dtypes: dict[str, int] = {}
    for name in sorted(heads):
        tensor = heads[name]
        if tensor.dtype in FLOATS:
            dtypes[tensor.dtype] = dtypes.get(tensor.dtype, 0) + tensor.size
    parameters = sum(dtypes.values())
    if not constraints.min_parameters <= parameters <= constraints.max_parameters:
        raise ModelFault(
            f"the model has {parameters} parameters; the competition allows "
            f"{constraints.min_parameters} to {constraints.max_parameters}"
        )
    return dtypes


def carries_code(path: str) -> bool:
    """Whether a repo with such a file is refused."""
    return PurePosixPath(path).suffix.lower() in _FOREIGN_SUFFIXES + _CODE_SUFFIXES


def is_weights(path: str) -> bool:
    """Whether the file holds the model's weights."""
    name = PurePosixPath(path).name
    return name == "model.safetensors" or fnmatchcase(name, "model-*-of-*.safetensors")


def loaded(path: str) -> bool:
    """Whether the file holds weights that are loaded: those in sub-folders only count for the hash."""
    return is_weights(path) and "/" not in path


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below the folder, by its path, sorted; hidden folders are left out."""
    if not folder.is_dir():
        raise ModelFault(f"{folder} is no folder")
    sizes: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            continue
        if path.is_symlink() and is_model_file(name):
            raise ModelFault(f"{name} is a link; a model consists of plain files")
        if path.is_file():
            sizes[name] = path.stat().st_size
    return sizes


def safe_path(path: str) -> bool:
    """Whether a path of a repo can be written below a folder, and nowhere else."""
    parts = path.split("/")
    return len(parts) <= 16 and all(_NAME.fullmatch(part) and part not in (".", "..") for part in parts)
