"""The processes behind `sn37.workers.isolation`: a clean parent that forks, and a watch over each worker.

    this program   started with a stripped environment, leaves the network; imports what all workers need, once,
      │            and runs nothing; ends when the process that started it does
      └─ watch     one per call: keeps the limits, passes progress on, kills the worker with all its children
           └─ worker   a fresh process that has loaded no model: runs one function and ends

Workers share nothing but the imported modules: each is forked from the clean parent, never from another
worker. Messages are JSON.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil

from sn37.errors import Sn37Error
from sn37.workers import sandbox
from sn37.workers.outcome import Message, Outcome, WorkerDied, packed

__all__ = ["MAX_MESSAGE_BYTES", "Request", "main"]

MAX_MESSAGE_BYTES = 1 << 16
"""The longest line between a watch and its caller."""

_ATOMIC_BYTES = 4096
_POLL_S, _END_POLL_S = 0.05, 0.002
"""How often limits are looked at, and the end of a worker that has said its last."""


@dataclass(frozen=True)
class Request:
    """One call, as it is sent to this program."""

    function: str
    """`"module:function"`, called with (payload, report)."""
    folder: str
    """The worker's working folder and home; it holds `payload.json` and receives `result.json` and `log`."""
    env: dict[str, str]
    """The whole environment of the worker."""
    time_limit_s: float
    """After it the worker is killed."""
    memory_bytes: int | None
    """Private memory above which the worker is killed; None for no limit."""
    fail_allocations: bool
    """Whether allocations fail before that limit, so that the worker can do with less."""
    max_file_bytes: int
    """The largest file it may write."""


def main(control_fd: int, network: str, modules: list[str]) -> None:
    """Serve calls: each message on the control socket is a request, with the socket of its caller attached.

    The first message goes the other way: why the network is not cut off, empty where it is or need not be.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    reachable = None if network == "open" else sandbox.isolate_network()
    refused = reachable is not None and network == "isolated"
    control.send(json.dumps({"refused": reachable if refused else None}).encode())
    if refused:
        return
    for name in modules:
        importlib.import_module(name)
    # Pages of imported modules stay shared with the workers only while nobody touches the objects' headers.
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # The watches hold the reading end: it closes when this process ends, however it does.
    alive, _held = os.pipe()
    while True:
        message, fds, _, _ = socket.recv_fds(control, MAX_MESSAGE_BYTES, 1)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            os.close(_held)
            _watch(socket.socket(fileno=fds[0]), alive, Request(**json.loads(message)))
        os.close(fds[0])


def _watch(caller: socket.socket, alive: int, request: Request) -> NoReturn:
    """Run one request in a worker of its own; report progress lines and, last, how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sandbox.adopt_orphans()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        caller.close()
        os.close(reader)
        os.close(alive)
        _work(request, writer)
    os.close(writer)
    ended: Message = {}
    with contextlib.suppress(OSError):
        ended = _keep_limits(caller, alive, reader, pid, request)
    _kill_all(pid)
    with contextlib.suppress(OSError):
        caller.sendall(json.dumps({"ended": ended}).encode() + b"\n")
    os._exit(0)


def _keep_limits(caller: socket.socket, alive: int, reader: int, pid: int, request: Request) -> Message:
    """Wait for the worker's end, in its own way or by a limit: {"how", "code"?}."""
    deadline = time.monotonic() + request.time_limit_s
    poll_s = _POLL_S
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        selector.register(caller, selectors.EVENT_READ)
        selector.register(alive, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(poll_s):
                if key.fd != reader:  # neither ever writes: the caller, or the program, is gone
                    return {"how": "abandoned"}
                data = os.read(reader, MAX_MESSAGE_BYTES)
                if data:
                    caller.sendall(data)
                else:
                    selector.unregister(reader)
                    poll_s = _END_POLL_S
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                while data := os.read(reader, MAX_MESSAGE_BYTES):
                    caller.sendall(data)
                return {"how": "signal" if code < 0 else "exit", "code": code}
            if request.memory_bytes is not None and sandbox.memory_of(pid) > request.memory_bytes:
                return {"how": "memory"}
            if time.monotonic() > deadline:
                return {"how": "time"}


def _kill_all(pid: int) -> None:
    """Kill the worker's session and every other descendant, adopted orphans included, until none is left."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
    while descendants := psutil.Process().children(recursive=True):
        for process in descendants:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)


def _work(request: Request, progress_fd: int) -> NoReturn:
    """The worker: read the payload, run the function, leave its result as a file. Never returns."""
    code = 1
    try:
        os.setsid()
        sandbox.die_with_parent()
        folder = Path(request.folder)
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(request.env)
        os.chdir(folder)
        sandbox.limit_file_size(request.max_file_bytes)
        if request.memory_bytes is not None and request.fail_allocations:
            sandbox.limit_memory(request.memory_bytes)
        outcome = packed(_outcome(request.function, folder, progress_fd))
        part = folder / "result.json.part"
        part.write_text(json.dumps(outcome, allow_nan=False))
        part.replace(folder / "result.json")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _outcome(function: str, folder: Path, progress_fd: int) -> Outcome:
    """What the function returned, or the error that stands for what it raised."""

    def report(message: Message) -> None:
        line = json.dumps({"progress": message}, allow_nan=False).encode() + b"\n"
        # A longer message would be torn where two are written at once: it is dropped.
        if len(line) <= _ATOMIC_BYTES:
            os.write(progress_fd, line)

    try:
        payload = json.loads((folder / "payload.json").read_text())
        module, _, name = function.partition(":")
        result: Message = getattr(importlib.import_module(module), name)(payload, report)
        return result
    except Sn37Error as error:
        return error
    except Exception as error:
        traceback.print_exc()
        text = str(error)
        memory = isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text
        return WorkerDied("memory" if memory else "error", f"{type(error).__name__}: {text}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
