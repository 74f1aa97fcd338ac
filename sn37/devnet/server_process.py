"""A server of the devnet as a process of its own, which outlives the command that started it.

A small file says which process it is; a number that meanwhile belongs to a stranger is known by what
that process was started as. Knows nothing of what is served.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from sn37.errors import ConfigError

__all__ = ["ServerProcess"]

_STOP_S = 10.0


@dataclass(frozen=True)
class _Running:
    pid: int
    endpoint: str


class ServerProcess:
    """What `python -m module *arguments --port N` serves; it prints its address once it does.

    place: `<place>.process.json` says which process it is, `<place>.log` what it complained of; its name is
    what messages call it.
    """

    def __init__(self, module: str, arguments: Sequence[str], place: Path) -> None:
        self.module, self.arguments, self.name = module, tuple(arguments), place.name
        self._file = place.with_name(f"{place.name}.process.json")
        self._log = place.with_name(f"{place.name}.log")
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str | None:
        """Where it answers, or None when it does not run."""
        found = self._read()
        return (found.endpoint or None) if found and self._process(found) else None

    def start(self, port: int = 0) -> str:
        """Start it unless it runs; its address. port: 0 for any free one.

        Raises ConfigError where the port is busy, or it runs on another one.
        """
        endpoint = self.endpoint
        if endpoint is None:
            return self._start(port)
        if port and not endpoint.endswith(f":{port}"):
            raise ConfigError(f"the {self.name} runs at {endpoint} already; stop it before you choose another port")
        return endpoint

    def start_again(self, endpoint: str, port: int = 0) -> str:
        """Start it unless it runs, at `port`, or where it was (`endpoint`), or at any free port when that is taken."""
        had = 0 if self.endpoint else int(endpoint.rpartition(":")[2] or 0)
        try:
            return self.start(port or had)
        except ConfigError:
            if port or not had:
                raise
            return self.start()

    def _start(self, port: int) -> str:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.arguments, "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # neither Ctrl-C nor the end of this terminal reaches it
                start_new_session=True,
            )
        self._write(_Running(child.pid, ""))
        assert child.stdout is not None
        with child.stdout as answer:
            endpoint = answer.readline().decode().strip()
        if not endpoint:
            child.wait()
            self._file.unlink(missing_ok=True)
            said = self._log.read_text(errors="replace").strip().splitlines()
            raise ConfigError(said[-1] if said else f"the {self.name} did not start; see {self._log}")
        self._child = child
        self._write(_Running(child.pid, endpoint))
        return endpoint

    def stop(self) -> bool:
        """Stop it; whether it ran. What it holds stays on disk."""
        found = self._read()
        process = self._process(found) if found else None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait()
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._file.unlink(missing_ok=True)
        return process is not None

    def _read(self) -> _Running | None:
        try:
            return _Running(**json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _write(self, running: _Running) -> None:
        aside = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        aside.write_text(json.dumps(asdict(running)) + "\n", encoding="utf-8")
        aside.replace(self._file)

    def _process(self, running: _Running) -> psutil.Process | None:
        """The server's process, while it is alive."""
        try:
            process = psutil.Process(running.pid)
            started_as = process.cmdline()
        except psutil.Error:
            return None
        return process if {self.module, *self.arguments} <= set(started_as) else None
