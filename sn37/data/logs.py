"""wandb's own files, as an offline run leaves them: a run's configuration and history, without a wandb server.

A `.wandb` file is a 7-byte header, then blocks of 32 KiB with chunks of a checksum, a length, a type and bytes; one to
many chunks make a protobuf record. wandb has no public reader of it. Only its types are taken from wandb; a file that
is cut gives what is whole. Checksums are not looked at: whoever could change the bytes could change those too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sn37.errors import ConfigError, disk_faults
from sn37.sources.base import Run

__all__ = ["read_log"]

_MAX_LOG_BYTES = 256 << 20
_HEADER_BYTES = 7
_BLOCK_BYTES = 32 << 10
_CHUNK = struct.Struct("<IHB")
_WHOLE, _LAST = 1, 4


def read_log(path: Path) -> Run:
    """The run in a `.wandb` file. Raises ConfigError where there is none."""
    with disk_faults(path):
        if not path.is_file() or path.stat().st_size > _MAX_LOG_BYTES:
            raise ConfigError(f"{path} is no wandb run; expected a .wandb file of at most {_MAX_LOG_BYTES:,} bytes")
        data = path.read_bytes()
    run = ""
    config: dict[str, object] = {}
    history: list[Mapping[str, object]] = []
    for record in _records(data):
        if record.HasField("run"):
            run = record.run.run_id
            config |= {item.key: _value(item.value_json) for item in record.run.config.update}
        elif record.HasField("history"):
            history.append(_row(record))
    if not run:
        raise ConfigError(f"{path} is no wandb run; expected what wandb writes offline")
    return Run(run, config, history)


def _records(data: bytes) -> Iterator[Any]:
    """wandb's protobuf records, as far as they can be read."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    at, parts = _HEADER_BYTES, bytearray()
    while at + _CHUNK.size <= len(data):
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < _CHUNK.size:  # too little for another chunk: zeros
            at += left
            continue
        _, length, kind = _CHUNK.unpack_from(data, at)
        at += _CHUNK.size
        parts += data[at : at + length]
        at += length
        if kind in (_WHOLE, _LAST):
            try:
                yield Record.FromString(bytes(parts))
            except Exception:  # protobuf's own type, which wandb does not pass on
                return
            parts = bytearray()


def _row(record: Any) -> Mapping[str, object]:
    """One step; what lies in nested dictionaries is left out."""
    names = ((item, [item.key] if item.key else list(item.nested_key)) for item in record.history.item)
    return {name[0]: _value(item.value_json) for item, name in names if len(name) == 1}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
