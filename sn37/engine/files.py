"""The one reading of a model's folder: which files are its weights, and its JSON. Opens nothing else, runs no code."""

from __future__ import annotations

import json
from pathlib import Path

from sn37.errors import ModelFault

__all__ = ["INDEX", "read_json", "weight_files", "weight_map"]

INDEX = "model.safetensors.index.json"

_SINGLE = "model.safetensors"
_MAX_JSON_BYTES = 16 << 20


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the model's weights: the single one, or its shards.

    Only files at the top count. Raises ModelFault where it is unclear which they are, or one is missing.
    """
    single, shards = folder / _SINGLE, sorted(folder.glob("model-*-of-*.safetensors"))
    if single.is_file() and shards:
        raise ModelFault(f"there are both {_SINGLE} and shards; which of them is the model is unclear")
    files = [single] if single.is_file() else [shard for shard in shards if shard.is_file()]
    if not files:
        raise ModelFault("there are no safetensors weights at the top of the repo, where they are loaded from")
    if not single.is_file() and not (folder / INDEX).is_file():
        raise ModelFault(f"the weights are in shards, but there is no {INDEX}")
    for name in sorted(set(weight_map(folder).values()) - {file.name for file in files}):
        raise ModelFault(f"{INDEX} names the file {name[:80]!r}, which is missing")
    return files


def weight_map(folder: Path) -> dict[str, str]:
    """The file of each tensor as the index says; empty where there is no index. Raises ModelFault."""
    if not (folder / INDEX).is_file():
        return {}
    data = read_json(folder / INDEX)
    places = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise ModelFault(f"{INDEX} has no weight_map from tensors to files")
    return places


def read_json(path: Path, max_bytes: int = _MAX_JSON_BYTES) -> object:
    """A JSON file of the model. Raises ModelFault where it is missing, too long, nested too deeply or no JSON."""
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise ModelFault(f"{path.name} is missing") from None
    if len(raw) > max_bytes:
        raise ModelFault(f"{path.name} is larger than {max_bytes} bytes")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelFault(f"{path.name} is no JSON that can be read: {reason}") from None
