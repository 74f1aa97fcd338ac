"""The embedded hub as a process of its own, which outlives the command that started it.

A small file says which process it is; a number that meanwhile belongs to a stranger is known by what
that process was started as. Knows nothing of what is served.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from sn37.errors import ConfigError
from sn37.files import write_json

__all__ = ["HubProcess"]

_STOP_S = 10.0
_MODULE = "sn37.devnet.hub"
_children: dict[int, subprocess.Popen[bytes]] = {}
"""The hubs that this process started, by process number: it has to collect them when they end."""


@dataclass(frozen=True)
class _Running:
    pid: int
    endpoint: str


class HubProcess:
    """The hub over `folder`, whose commits take their time from the embedded chain in the file `chain`.

    `<folder>.process.json` says which process it is, `<folder>.log` what it complained of.
    """

    def __init__(self, folder: Path, chain: Path) -> None:
        self._arguments = ("--root", str(folder), "--chain", str(chain))
        self._file = folder.with_name(f"{folder.name}.process.json")
        self._log = folder.with_name(f"{folder.name}.log")

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
            raise ConfigError(f"the hub runs at {endpoint} already; stop it before you choose another port")
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
                [sys.executable, "-m", _MODULE, *self._arguments, "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # neither Ctrl-C nor the end of this terminal reaches it
                start_new_session=True,
            )
        write_json(self._file, asdict(_Running(child.pid, "")))
        assert child.stdout is not None
        with child.stdout as answer:
            endpoint = answer.readline().decode().strip()
        if not endpoint:
            child.wait()
            self._file.unlink(missing_ok=True)
            said = self._log.read_text(errors="replace").strip().splitlines()
            raise ConfigError(said[-1] if said else f"the hub did not start; see {self._log}")
        _children[child.pid] = child
        write_json(self._file, asdict(_Running(child.pid, endpoint)))
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
            if child := _children.pop(process.pid, None):
                child.wait()
        self._file.unlink(missing_ok=True)
        return process is not None

    def _read(self) -> _Running | None:
        try:
            return _Running(**json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _process(self, running: _Running) -> psutil.Process | None:
        """The server's process, while it is alive."""
        try:
            process = psutil.Process(running.pid)
            started_as = process.cmdline()
        except psutil.Error:
            return None
        return process if {_MODULE, *self._arguments} <= set(started_as) else None
