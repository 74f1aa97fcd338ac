"""Progress of an evaluation: models, task, samples, tokens per second, time left; in a notebook and a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from threading import Lock
from typing import Any

__all__ = ["Progress"]

_INTERVAL_S = 0.5


class Progress:
    """Shows one line and keeps it up to date; reports may come from several threads. models: how many there are."""

    def __init__(self, models: int) -> None:
        self.models = models
        self._done: set[str] = set()
        self._at: dict[str, Mapping[str, Any]] = {}
        self._tokens: dict[tuple[str, str], int] = {}
        self._started = self._shown = time.monotonic()
        self._lock = Lock()
        self._line = _line()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._show(force=True)
        self._line.close()

    def report(self, key: str, message: Mapping[str, Any]) -> None:
        """What the worker of model `key` says: its stage, task, rows and tokens."""
        with self._lock:
            self._at[key] = message
            if "tokens" in message:
                self._tokens[key, str(message.get("task"))] = int(message["tokens"])
            self._show()

    def finished(self, key: str) -> None:
        """Model `key` is through, in whatever way."""
        with self._lock:
            self._done.add(key)
            self._at.pop(key, None)
            self._show(force=True)

    def text(self) -> str:
        """The line."""
        seconds = time.monotonic() - self._started
        tokens = sum(self._tokens.values())
        parts = [f"{len(self._done)} of {self.models} models"]
        for message in list(self._at.values())[:4]:
            rows = f" {message['rows']}/{message['samples']}" if "rows" in message else ""
            parts.append(f"{message.get('task', message.get('stage', ''))}{rows}")
        if tokens and seconds:
            parts.append(f"{tokens / seconds:,.0f} tokens/s")
        if self._done and len(self._done) < self.models:
            parts.append(f"{seconds / len(self._done) * (self.models - len(self._done)):.0f} s left")
        parts.append(f"{seconds:.0f} s")
        return ", ".join(parts)

    def _show(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._shown >= _INTERVAL_S:
            self._shown = now
            self._line.show(self.text())


class _Terminal:
    """One line of standard error, written over; silent where nobody looks."""

    def __init__(self) -> None:
        self._used = False

    def show(self, text: str) -> None:
        if sys.stderr.isatty():
            self._used = True
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._used:
            print(file=sys.stderr)


class _Cell:
    """One updated output of a notebook cell."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def show(self, text: str) -> None:
        self._handle.update({"text/plain": text}, raw=True)

    def close(self) -> None:
        pass


def _line() -> _Terminal | _Cell:
    if "IPython" in sys.modules:
        from IPython import get_ipython
        from IPython.display import display

        if getattr(get_ipython(), "kernel", None) is not None:
            handle: Any = display({"text/plain": "starting"}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
            return _Cell(handle)
    return _Terminal()
