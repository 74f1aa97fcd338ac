"""What the head of a safetensors file says: tensors, their types and shapes. No tensor is loaded.

The format: 8 bytes (little-endian) length of the head, the head as JSON, then the tensors' bytes
without gaps. https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FLOATS", "MAX_HEAD_BYTES", "Tensor", "head_bytes", "read_head", "tensors"]

MAX_HEAD_BYTES = 32 << 20
"""A model of 10 billion parameters has a head of well under one of these 32 MiB."""

_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}
FLOATS = frozenset(("F16", "BF16", "F32", "F64"))
"""The types that parameters may have; the others are quantized, or no parameters."""


@dataclass(frozen=True)
class Tensor:
    """A tensor's type, in the format's own words, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def head_bytes(first: bytes, file_bytes: int) -> int:
    """Length of the head from the file's first 8 bytes. Raises ValueError where it cannot be one."""
    length = int.from_bytes(first[:8], "little")
    if len(first) < 8 or length > file_bytes - 8:
        raise ValueError("its head does not fit into the file")
    if length > MAX_HEAD_BYTES:
        raise ValueError(f"its head has {length} bytes; at most {MAX_HEAD_BYTES} are allowed")
    return length


def read_head(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. Raises ValueError: what is wrong with it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = head_bytes(file.read(8), size)
        return tensors(file.read(length), size - 8 - length)


def tensors(head: bytes, data_bytes: int) -> dict[str, Tensor]:
    """The tensors of a head by name, checked against the bytes that follow it. Raises ValueError."""
    if not head.startswith(b"{"):
        raise ValueError("its head is not the JSON of a safetensors file")
    try:
        data = json.loads(head, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("its head is nested too deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError("its head is no JSON") from None
    data.pop("__metadata__", None)
    found = {name: _tensor(name, entry) for name, entry in data.items()}
    position = 0
    for begin, end, name in sorted((begin, end, name) for name, (_, begin, end) in found.items()):
        if begin != position:
            raise ValueError(f"the tensor {name[:80]!r} leaves a gap or overlaps its neighbour")
        position = end
    if position != data_bytes:
        raise ValueError(f"its tensors take {position} bytes, the file has {data_bytes} for them")
    return {name: tensor for name, (tensor, _, _) in found.items()}


def _tensor(name: str, entry: Any) -> tuple[Tensor, int, int]:
    what = f"the tensor {name[:80]!r}"
    if not isinstance(entry, Mapping) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{what} lacks dtype, shape or data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise ValueError(f"{what} has the unknown dtype {str(dtype)[:20]!r}")
    if not _naturals(shape) or len(shape) > 8:
        raise ValueError(f"{what} has a malformed shape")
    if not _naturals(offsets) or len(offsets) != 2:
        raise ValueError(f"{what} has malformed data_offsets")
    tensor = Tensor(dtype, tuple(shape))
    if offsets[1] - offsets[0] != tensor.size * _BYTES[dtype]:
        raise ValueError(f"{what} has {offsets[1] - offsets[0]} bytes, its shape and dtype need another number")
    return tensor, offsets[0], offsets[1]


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 48 for v in values)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("its head names something twice")
    return data
