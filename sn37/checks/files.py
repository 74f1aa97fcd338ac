"""What can be said of a model without loading it: its files, its configuration, its safetensors heads.

Protocol, section 7, from "bytes within the limit" to "architecture named in config", and the
parameter count as the heads have it. Nothing is unpickled and no code is run or looked up. Whether
the weights load, are finite and keep the norms is the engine's to say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from sn37.competition import Constraints
from sn37.engine.files import INDEX, read_json, weight_files, weight_map
from sn37.errors import ModelFault
from sn37.submission import is_model_file

__all__ = [
    "MAX_HEADS_BYTES",
    "StaticReport",
    "carries_code",
    "check_contents",
    "check_count",
    "check_files",
    "check_heads_size",
    "check_size",
    "check_static",
    "code_reasons",
    "is_weights",
    "published_files",
    "read_architecture",
    "read_tensors",
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
_FLOATS = frozenset(("F16", "BF16", "F32", "F64"))
"""The types that parameters may have; the others are quantized, or no parameters."""
_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]+")
_MAX_NAME_BYTES, _MAX_PATH_BYTES = 240, 1024
"""A disk takes 255 bytes a name; a download needs some of them for what it writes beside the file."""
_MAX_MODEL_FILES = 512
MAX_HEADS_BYTES = 4 << 20
"""Of all weight files together: 40 000 tensors; a model of 400 billion parameters has about 1 000."""


@dataclass(frozen=True)
class Tensor:
    """A tensor as its file's head describes it."""

    dtype: str
    """In the format's own words: `BF16`, `F32`, ..."""
    size: int
    """How many numbers it holds."""


@dataclass(frozen=True)
class StaticReport:
    """What a look at the files tells."""

    architecture: str
    """The one that config.json names."""
    parameters: int
    """Numbers in the floating-point tensors of the files; a tied head saved as well counts twice here."""
    dtypes: Mapping[str, int]
    """Of those, by type."""
    bytes: int
    """Of all the model's files."""
    files: tuple[str, ...]
    """Their paths, sorted."""


def check_static(folder: Path, constraints: Constraints) -> StaticReport:
    """Check a folder as a validator would, before publishing or after fetching.

    Raises ModelFault with the first reason, in the protocol's order.
    """
    sizes = _sizes(folder)
    model = {path: size for path, size in sizes.items() if is_model_file(path)}
    check_size(model, constraints)
    check_files(sizes)
    tensors = check_contents(folder)
    architecture = read_architecture(folder, constraints)
    dtypes = check_count(folder, tensors, constraints)
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
        if is_model_file(path) and not _safe_path(path):
            raise ModelFault(f"{path[:300]!r} is no plain path of a file")
        if any(is_model_file(parent) for parent in PurePosixPath(path).parents):
            raise ModelFault(f"{path[:300]!r} lies in a folder that is called as a file of the model")
    count = sum(is_model_file(path) for path in paths)
    if count > _MAX_MODEL_FILES:
        raise ModelFault(f"the model has {count} files; at most {_MAX_MODEL_FILES} are allowed")
    if not any(is_weights(path) for path in paths):
        raise ModelFault("there are no safetensors weights: neither model.safetensors nor model-*-of-*.safetensors")


def code_reasons(folder: Path) -> Iterator[str]:
    """Why the configurations are refused: each that asks for code, or for weights that are quantized."""
    for path in sorted(folder.rglob("*.json")):
        if path.name in _JSON_FILES and path.is_file():
            yield from _key_reasons(read_json(path), path.relative_to(folder).as_posix())


def _key_reasons(data: object, name: str) -> Iterator[str]:
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in _CODE_KEYS and inner:
                    yield f"{name} asks for code of its own ({key!r}); no such code is ever run"
                if key.endswith("_implementation") and isinstance(inner, str) and "/" in inner:
                    yield f"{name} asks for code from elsewhere ({key!r}); no such code is ever run"
                if key == "quantization_config" and inner:
                    yield f"{name} says the weights are quantized; plain floating-point weights are expected"
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def check_contents(folder: Path) -> dict[str, Tensor]:
    """The tensors of the weights; raises ModelFault for code, quantization, and weights that cannot be read."""
    for reason in code_reasons(folder):
        raise ModelFault(reason)
    return read_tensors(folder)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of the weights, from their heads. Raises ModelFault where files and index do not fit together."""
    files = weight_files(folder)
    check_heads_size(sum(_head_bytes(file) for file in files))
    places = weight_map(folder)
    joined: dict[str, Tensor] = {}
    for file in files:
        for name, tensor in _tensors(file).items():
            if name in joined:
                raise ModelFault(f"the tensor {name[:80]!r} is in two files")
            if places and places.get(name) != file.name:
                raise ModelFault(f"{INDEX} does not place the tensor {name[:80]!r} in {file.name}, where it is")
            joined[name] = tensor
    for name in sorted(set(places) - set(joined)):
        raise ModelFault(f"{INDEX} names the tensor {name[:80]!r}, which {places[name]} does not hold")
    return joined


def check_heads_size(total_bytes: int) -> None:
    """total_bytes: of the heads of all weight files. Raises ModelFault where they are too long to be read."""
    if total_bytes > MAX_HEADS_BYTES:
        raise ModelFault(f"the heads of the weights have {total_bytes} bytes; at most {MAX_HEADS_BYTES} are allowed")


def _head_bytes(file: Path) -> int:
    """How long the file says its head is, as far as it fits into the file."""
    with file.open("rb") as opened:
        return min(8 + int.from_bytes(opened.read(8), "little"), file.stat().st_size)


def _tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, of which only the head is read."""
    from safetensors import SafetensorError, safe_open

    found = {}
    try:
        with safe_open(file, framework="numpy") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                part = opened.get_slice(name)
                found[name] = Tensor(part.get_dtype(), math.prod(part.get_shape()))
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise ModelFault(f"{file.name} is no safetensors file: {' '.join(str(error).split())[:200]}") from None
    return found


def read_architecture(folder: Path, constraints: Constraints) -> str:
    """The architecture config.json names. Raises ModelFault unless it is one the competition allows."""
    if not (folder / "config.json").is_file():
        raise ModelFault("there is no config.json")
    config = read_json(folder / "config.json")
    named = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        raise ModelFault("config.json does not name exactly one architecture")
    if named[0] not in constraints.architectures:
        allowed = ", ".join(constraints.architectures)
        raise ModelFault(f"the architecture {named[0][:80]!r} is not allowed; the competition allows {allowed}")
    return named[0]


def check_count(folder: Path, tensors: Mapping[str, Tensor], constraints: Constraints) -> dict[str, int]:
    """Numbers in the floating-point tensors, by their type. Raises ModelFault: too few, or too many once loaded.

    The files may hold what the loaded model does not: a tied head saved as well, buffers nobody uses. So where
    they hold too many numbers, those of the model that config.json describes are counted, which takes torch.
    """
    dtypes: dict[str, int] = {}
    for tensor in tensors.values():
        if tensor.dtype in _FLOATS:
            dtypes[tensor.dtype] = dtypes.get(tensor.dtype, 0) + tensor.size
    count = sum(dtypes.values())
    if count > constraints.max_parameters:
        from sn37.checks.weights import count_parameters

        count = count_parameters(folder, constraints.architectures, len(tensors))
    if not constraints.min_parameters <= count <= constraints.max_parameters:
        raise ModelFault(
            f"the model has {count} parameters; the competition allows "
            f"{constraints.min_parameters} to {constraints.max_parameters}"
        )
    return dict(sorted(dtypes.items()))


def carries_code(path: str) -> bool:
    """Whether a repo with such a file is refused."""
    return PurePosixPath(path).suffix.lower() in _FOREIGN_SUFFIXES + _CODE_SUFFIXES


def is_weights(path: str) -> bool:
    """Whether the file holds the model's weights."""
    name = PurePosixPath(path).name
    return name == "model.safetensors" or fnmatchcase(name, "model-*-of-*.safetensors")


def published_files(folder: Path) -> dict[str, Path]:
    """The files of the model that publishing sends, by name: the protocol's, at the top of the folder."""
    if not folder.is_dir():
        raise ModelFault(f"{folder} is no folder")
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and is_model_file(path.name)}


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below the folder, by its path, sorted; hidden folders are left out."""
    if not folder.is_dir():
        raise ModelFault(f"{folder} is no folder")
    sizes: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            continue
        if path.is_file():
            sizes[name] = path.stat().st_size
    return sizes


def _safe_path(path: str) -> bool:
    """Whether a path of a repo can be written below a folder on any disk, and nowhere else."""
    try:
        lengths = [len(part.encode()) for part in path.split("/")]
    except UnicodeEncodeError:
        return False
    plain = all(_NAME.fullmatch(part) and part not in (".", "..", ".cache") for part in path.split("/"))
    return plain and len(lengths) <= 16 and sum(lengths) <= _MAX_PATH_BYTES and max(lengths) <= _MAX_NAME_BYTES
