"""Functions of typed arguments that run in a worker: JSON goes there and back, and is held against the types each way.

What a worker answers may be as hostile as what it has read: its caller takes nothing but the type it expects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar, get_type_hints

from pydantic import TypeAdapter, validate_call
from pydantic_core import to_jsonable_python

from sn37.workers.isolation import ForkServer
from sn37.workers.outcome import Message

__all__ = ["WorkerFunction"]

P = ParamSpec("P")
T = TypeVar("T")


class WorkerFunction(Generic[P, T]):
    """Decorator of a public function of a module.

    >>> @WorkerFunction
    ... def count_lines(path: Path) -> int:
    ...     return len(path.read_text().splitlines())
    >>> count_lines.run(server, 60.0, 1 << 30, Path("README.md"))
    """

    def __init__(self, function: Callable[P, T]) -> None:
        self.name = f"{function.__module__}:{function.__name__}"
        # Made with the module, which workers find imported: it takes as long as a short function itself.
        self._checked: Callable[..., T] = validate_call(function)
        self._answer: TypeAdapter[T] = TypeAdapter(get_type_hints(function)["return"])

    def run(self, server: ForkServer, time_limit_s: float, memory_bytes: int, *args: P.args, **named: P.kwargs) -> T:
        """What the function returns, run in a worker of `server`. Raises as `ForkServer.call` does."""
        payload = to_jsonable_python({"args": args, "named": named})
        found = server.call(self.name, payload, time_limit_s=time_limit_s, memory_bytes=memory_bytes)
        return self._answer.validate_python(found["answer"])

    def __call__(self, payload: Message, report: object) -> Message:
        """What the worker calls."""
        return {"answer": to_jsonable_python(self._checked(*payload["args"], **payload["named"]))}
