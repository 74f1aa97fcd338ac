"""The progress of an evaluation, as a bar: models done, task, samples, tokens per second, time left.

A widget in Jupyter, a line in a terminal, nothing where nobody looks: in a pipe, in a notebook that a pipeline runs
(it sets TQDM_DISABLE), in a notebook without ipywidgets.
"""

from __future__ import annotations

import os
import time
import warnings
from threading import Lock
from typing import TYPE_CHECKING, NoReturn

from sn37.workers.outcome import Message

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Progress", "bar"]

_INTERVAL_S = 0.5


def bar(total: int, unit: str) -> tqdm[NoReturn]:
    """A bar as tqdm draws it here; it goes when it is done where another one is still shown."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # its advice to install ipywidgets
        from tqdm.auto import tqdm
    disabled = True if os.environ.get("TQDM_DISABLE") else None  # None: where the output is no terminal
    return tqdm(total=total, unit=unit, mininterval=_INTERVAL_S, miniters=0, disable=disabled, leave=None)


class Progress:
    """A bar over models; reports may come from several threads.

    >>> with Progress(models=2) as progress:
    ...     progress.report("a", {"task": "TEXTS", "rows": 3, "samples": 9, "tokens": 1200})
    ...     progress.finished("a")
    """

    def __init__(self, models: int) -> None:
        self._bar = bar(models, "model")
        self._running: dict[str, Message] = {}
        self._tokens: dict[tuple[str, str], int] = {}
        self._started = time.monotonic()
        self._lock = Lock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def report(self, key: str, message: Message) -> None:
        """What the worker of model `key` says: its stage, task, rows of samples, and tokens so far."""
        with self._lock:
            self._running[key] = message
            if "tokens" in message:
                self._tokens[key, str(message.get("task"))] = int(message["tokens"])
            self._show(0)

    def finished(self, key: str) -> None:
        """Model `key` is through, in whatever way."""
        with self._lock:
            self._running.pop(key, None)
            self._show(1)

    def _show(self, models: int) -> None:
        parts = []
        for message in list(self._running.values())[:4]:
            rows = f" {message['rows']}/{message['samples']}" if "rows" in message else ""
            parts.append(f"{message.get('task', message.get('stage', ''))}{rows}")
        tokens = sum(self._tokens.values())
        if tokens:
            parts.append(f"{tokens / (time.monotonic() - self._started):,.0f} tokens/s")
        self._bar.set_postfix_str(", ".join(parts), refresh=False)
        self._bar.update(models)
