"""Run one function in a process of its own, where it can hurt nobody, and take its result back as data.

Each call gets a fresh process in a session of its own: stripped environment, empty home folder, no network, a time
and a memory limit; it is killed hard, with everything it started. Payload, result and progress are JSON, bounded in
size; nothing is unpickled. The function is named, `"module:function"`, and is called with
(payload, report), where `report` sends a small dict to `on_progress`.

A `ForkServer` imports the heavy libraries once and forks each worker from that clean process, which has loaded no
model and runs nothing else: the same isolation as in a Python started anew, seconds sooner.

What it does not protect against is said in `sn37.workers.sandbox`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from sn37.errors import ConfigError, Sn37Error
from sn37.scratch import ScratchFolder
from sn37.workers import sandbox
from sn37.workers.forkserver import MAX_MESSAGE_BYTES, Request
from sn37.workers.outcome import Message, Outcome, WorkerDied, unpacked
from sn37.workers.sandbox import Network

__all__ = ["Cancel", "ForkServer", "WorkerDied"]

MAX_RESULT_BYTES = 256 << 20
_GRACE_S = 120.0


class Cancel:
    """Ends the calls it is given to, from another thread: their workers are killed, and so is any that starts later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.asked = False

    def __call__(self) -> None:
        """End them all."""
        with self._lock:
            self.asked = True
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def watching(self, connection: socket.socket) -> Iterator[None]:
        """While a call talks over `connection`."""
        with self._lock:
            self._open.add(connection)
            if self.asked:
                connection.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(connection)


class ForkServer:
    """A clean process that has imported `modules` and forks a worker per call. Starts with the first, or by `start`.

    Calls may come from several threads. modules: they only import and compute nothing, for a fork keeps no threads;
    network: `isolated`, and no worker starts where the kernel cannot do that; `isolation not required`, as far as the
    kernel can; `open`, for fetching only.
    """

    def __init__(self, modules: Sequence[str] = (), network: Network = "isolated") -> None:
        self.modules = tuple(modules)
        self.network: Network = network
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket  # there is one while there is a process
        self._scratch = ScratchFolder()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start importing now, without waiting for it; does nothing while the process lives.

        Raises ConfigError where the network cannot be cut off and must be.
        """
        with self._lock:
            if self._process is not None:
                if self._process.poll() is None:
                    return
                self._control.close()  # of one that died
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                program = [sys.executable, "-m", "sn37.workers.forkserver", str(theirs.fileno()), self.network]
                with (self._scratch.path / "log").open("ab") as log:
                    self._process = subprocess.Popen(
                        [*program, *self.modules],
                        env=sandbox.environment(self._scratch.path, self.network),
                        cwd=self._scratch.path,
                        pass_fds=[theirs.fileno()],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
            greeting = self._control.recv(MAX_MESSAGE_BYTES)
        if not greeting:
            raise WorkerDied("lost", f"no worker could be started; {self._log()}")
        refused = json.loads(greeting)["refused"]
        if refused:
            raise ConfigError(
                f"workers would reach the network: {refused}; allow user namespaces on this machine, or accept it "
                "with worker_network = 'isolation not required'"
            )

    def stop(self) -> None:
        """End the process and every worker; calls still under way fail. The next call starts it again."""
        with self._lock:
            if self._process is not None:
                self._control.close()
                self._process.kill()
                self._process.wait()
                self._process = None

    def close(self) -> None:
        """`stop`, for good."""
        self.stop()
        self._scratch.close()

    def call(
        self,
        function: str,
        payload: Mapping[str, object],
        *,
        time_limit_s: float,
        memory_bytes: int | None = None,
        env: Mapping[str, str] | None = None,
        on_progress: Callable[[Message], None] | None = None,
        max_result_bytes: int = MAX_RESULT_BYTES,
        max_file_bytes: int | None = None,
        fail_allocations: bool = True,
        cancel: Cancel | None = None,
    ) -> Message:
        """The dict that `function(payload, report)` returns, run in a worker of its own.

        memory_bytes: above it the worker is killed; with `fail_allocations` its allocations fail before that, so
        that it can do with less. env: added to the worker's environment; max_file_bytes: the largest file it may
        write, `max_result_bytes` when None; cancel: ends the call early. Raises the Sn37Error the function raised,
        and WorkerDied when there is no result.
        """
        self.start()
        with tempfile.TemporaryDirectory(dir=self._scratch.path, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            (folder / "payload.json").write_text(json.dumps(payload, allow_nan=False))
            request = Request(
                function=function,
                folder=name,
                env=sandbox.environment(folder, self.network, env),
                time_limit_s=time_limit_s,
                memory_bytes=memory_bytes,
                fail_allocations=fail_allocations,
                max_file_bytes=max_result_bytes if max_file_bytes is None else max_file_bytes,
            )
            ended = self._converse(request, on_progress, cancel or Cancel())
            return _result(request, ended, max_result_bytes)

    def _converse(self, request: Request, on_progress: Callable[[Message], None] | None, cancel: Cancel) -> Message:
        """Send the request, pass progress on, return how the worker ended."""
        ours, theirs = socket.socketpair()
        with ours, ours.makefile("rb") as lines, cancel.watching(ours):
            with theirs:
                try:
                    socket.send_fds(self._control, [json.dumps(asdict(request)).encode()], [theirs.fileno()])
                except OSError as error:
                    raise WorkerDied("lost", f"no worker could be started: {error}; {self._log()}") from error
            ours.settimeout(request.time_limit_s + _GRACE_S)
            while line := _line(lines):
                message = json.loads(line)
                if "ended" in message:
                    return dict(message["ended"])
                if "progress" in message and on_progress is not None:
                    on_progress(message["progress"])
        raise WorkerDied("lost", f"the process that watches over a worker is gone; {self._log()}")

    def _log(self) -> str:
        return f"it said: {_tail(self._scratch.path / 'log')}"


def _line(lines: BinaryIO) -> bytes:
    """The next message; nothing where the other side is gone or silent for too long."""
    try:
        return lines.readline(MAX_MESSAGE_BYTES)
    except OSError:
        return b""


def _result(request: Request, ended: Message, max_bytes: int) -> Message:
    """The result file's content; raises the error that stands for it."""
    said = f"it said: {_tail(Path(request.folder) / 'log')}"
    match ended:
        case {"how": "exit", "code": 0}:
            pass
        case {"how": "time"}:
            raise WorkerDied("time", f"the worker ran longer than {request.time_limit_s:g} s and was killed")
        case {"how": "memory"}:
            raise WorkerDied("memory", f"the worker took more than {request.memory_bytes:,} bytes and was killed")
        case {"how": "signal", "code": code}:
            raise WorkerDied("signal", f"the worker was killed by {signal.Signals(-code).name}; {said}")
        case _:
            raise WorkerDied("error", f"the worker ended without a result; {said}")
    outcome = _read(Path(request.folder) / "result.json", max_bytes)
    if isinstance(outcome, Sn37Error):
        raise outcome
    return outcome


def _read(path: Path, max_bytes: int) -> Outcome:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            raw = file.read(max_bytes + 1)
        if len(raw) > max_bytes:
            raise ValueError(f"more than {max_bytes} bytes")
        return unpacked(json.loads(raw))
    except (OSError, ValueError, RecursionError) as error:
        return WorkerDied("garbage", f"the worker's result cannot be read: {error}")


def _tail(path: Path, max_bytes: int = 2000) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - max_bytes, 0))
            return file.read(max_bytes).decode(errors="replace").strip() or "nothing"
    except OSError:
        return "nothing"
