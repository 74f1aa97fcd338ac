"""What runs on a node of a Ray cluster: one payload, in an isolated worker, its outcome as JSON text.

Ray's own process holds no model: it starts the same confined worker as `sn37.engine.executors.LocalExecutor`
does and ends with it. Before that it makes sure that this node is what the validator takes it for: the same
versions, and the same files at the same paths. A node that is not must never cost a miner anything.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sn37 import errors
from sn37.engine.isolation import ForkServer, WorkerDied
from sn37.errors import EvaluatorFault, Sn37Error

__all__ = ["evaluate", "files_of", "unpacked", "versions"]

_FILES_WAIT_S = 30.0
"""How long shared storage may take to show on one machine what another has written."""

Tell = Callable[[dict[str, Any]], None]


def versions() -> dict[str, str]:
    """What must be equal on all nodes for equal digits."""
    return {name: _version(name) for name in ("sn37", "torch", "transformers", "tokenizers")}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def files_of(payload: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The folders and files that the payload names by absolute path: path -> file in it -> bytes."""
    named = [value for value in payload.values() if isinstance(value, str) and Path(value).is_absolute()]
    return {value: _sizes(Path(value)) for value in named if Path(value).exists()}


def _sizes(place: Path) -> dict[str, int]:
    if place.is_file():
        return {"": place.stat().st_size}
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.stat().st_size for path in files}


def evaluate(request: str, tell: Tell | None, own_memory_bytes: int) -> str:
    """Run the request, as `sn37.engine.ray` makes it; what came of it as JSON, read back by `unpacked`.

    own_memory_bytes: what a worker may take on this node where the request names no limit.
    """
    asked = json.loads(request)
    try:
        _check_versions(asked["versions"])
        _await_files(asked["files"])
        with ForkServer(asked["modules"]) as server:
            result = server.call(
                asked["function"],
                asked["payload"],
                time_limit_s=asked["time_limit_s"],
                memory_bytes=asked["memory_bytes"] or own_memory_bytes,
                env={"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "") if asked["gpus"] else ""},
                on_progress=tell,
                fail_allocations=not asked["gpus"],
            )
        return json.dumps({"ok": result})
    except WorkerDied as error:
        return json.dumps({"died": error.kind, "text": str(error)})
    except Sn37Error as error:
        return json.dumps({"fault": type(error).__name__, "text": str(error)})


def unpacked(answer: str) -> dict[str, Any] | Sn37Error:
    """The outcome behind the text that `evaluate` made: only this library's own types."""
    data = json.loads(answer)
    if "ok" in data:
        return dict(data["ok"])
    if "died" in data:
        return WorkerDied(data["died"], data["text"])
    kind = getattr(errors, str(data.get("fault")), EvaluatorFault)
    return kind(str(data.get("text")))


def _check_versions(expected: Mapping[str, str]) -> None:
    for name, version in versions().items():
        if version != expected[name]:
            raise EvaluatorFault(
                f"{platform.node()} has {name} {version}; expected {expected[name]}, as the validator has: "
                "install the same requirements.lock on every node"
            )


def _await_files(expected: Mapping[str, Mapping[str, int]]) -> None:
    deadline = time.monotonic() + _FILES_WAIT_S
    for name, sizes in expected.items():
        while not Path(name).exists() or _sizes(Path(name)) != sizes:
            if time.monotonic() > deadline:
                raise EvaluatorFault(
                    f"{name} is not on {platform.node()} what it is for the validator: keep the validator's root "
                    "on storage that every node mounts at the same path"
                )
            time.sleep(0.5)
