"""Keeps programs running, each a process of its own: one that ends is started again, a signal stops them all.

Knows nothing of what they do. It dies with none left behind: they die with it, and what they started is killed.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sn37.scratch import ScratchFolder

__all__ = ["supervise"]

USER_ERROR = 2
"""The exit code of a program whose mistake only the user can mend."""

_POLL_S = 0.2
_GRACE_S = 5.0
_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 600.0
_HEALTHY_S = 600.0
"""A program that has run so long starts anew with the shortest pause."""


@dataclass
class _Program:
    """One program, and how often it has ended."""

    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    ends: int = 0
    proven: bool = False
    """Whether it has ever run for long."""
    again_at: float = 0.0

    def start(self) -> None:
        # A session of its own: a Ctrl-C in the terminal reaches the supervisor alone, which stops all in order.
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, start_new_session=True)
        self.started = time.monotonic()

    def ended(self) -> int | None:
        """The exit code where it has just ended, and when it is started again; else None."""
        code = None if self.process is None else self.process.poll()
        if code is not None:
            self.process = None
            now = time.monotonic()
            healthy = now - self.started > _HEALTHY_S
            self.ends, self.proven = 1 if healthy else self.ends + 1, self.proven or healthy
            self.again_at = now + min(_PAUSE_S * 2 ** min(self.ends - 1, 20), _LONGEST_PAUSE_S)
        return code


def supervise(programs: Mapping[str, Sequence[str]], say: Callable[[str], None], minor: Collection[str] = ()) -> int:
    """Run the programs, by name, until SIGTERM or SIGINT; returns 0 then.

    A program that ends is started again, after a pause that grows while it keeps ending. One that ends with exit code
    2, and has never run for long, stops all: its message is on standard error, and 2 is returned. minor: the names of
    programs that stop nothing. Main thread only.
    """
    running = {name: _Program(command) for name, command in programs.items()}
    with _signals() as stopped:
        try:
            while not stopped:
                for name, program in running.items():
                    if program.process is None and time.monotonic() >= program.again_at:
                        program.start()
                    code = program.ended()
                    if code == USER_ERROR and not program.proven and name not in minor:
                        return USER_ERROR
                    if code is not None:
                        pause_s = program.again_at - time.monotonic()
                        say(f"{name} ended with code {code}; started again in {pause_s:.0f} s")
                time.sleep(_POLL_S)
            say("stopping")
            return 0
        finally:
            _stop([program.process for program in running.values() if program.process is not None])


@contextlib.contextmanager
def _signals() -> Iterator[Sequence[int]]:
    """Which of SIGTERM and SIGINT have come."""
    # No event: to set one in a handler waits for a lock that the interrupted thread, waiting for it, may hold.
    stopped: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda got, _: stopped.append(got)) for number in signals}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the processes and whatever they have started, also in sessions of their own; those get five seconds."""
    import psutil

    trees = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(process.pid)
            trees += [root, *root.children(recursive=True)]
    for process in processes:
        process.terminate()
    psutil.wait_procs(trees, timeout=_GRACE_S)
    for left in trees:
        with contextlib.suppress(psutil.Error):
            left.kill()
    for process in processes:
        process.wait()
    ScratchFolder().close()  # removes the folders and sockets of those that were killed
