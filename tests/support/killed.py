"""A validator of the smallest subnet that kills itself with SIGKILL at a chosen moment.

A moment is an access to the disk, a socket or another program, counted from the start: any state that a kill can leave
behind is one between two of them. Programs are imported once, in a process that forks an attempt per call; so a kill
costs what it interrupts and no more.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

MOMENTS = ("open", "os.", "socket.", "sqlite3.", "shutil.", "subprocess.", "fcntl.", "tempfile.")


class Attempts:
    """Runs a validator's service for one epoch at a time, in processes that may be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Attempts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._process as process:
            process.terminate()

    def run(self, parameters: Mapping[str, object], kill_at: int | None = None) -> list[str] | None:
        """The validator's lines, the last of them how many moments there were; None where it was killed at one."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"parameters": dict(parameters), "kill_at": kill_at}) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        lines: list[str] | None = found["lines"]
        assert found["status"] == (0 if lines is not None else -signal.SIGKILL), found
        return lines


def main() -> None:
    """Import everything, start what workers are forked from, then an attempt for each line of standard input."""
    from sn37.data import pinned
    from sn37.evaluation.run import preloaded
    from sn37.hub import connection
    from sn37.validator import wandb_mirror
    from sn37.workers.executors import LocalExecutor

    assert wandb_mirror
    executor = LocalExecutor(("cpu",), preloaded(("LlamaForCausalLM",)))
    # What workers are forked from outlives an attempt here, which is cheaper; the workers themselves do not.
    servers = [executor._server, connection._server(), pinned._server("open"), pinned._server("isolated")]
    for server in servers:
        server.start()
    for line in sys.stdin:
        asked = json.loads(line)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            for server in servers:
                server._process = _Alive()  # type: ignore[assignment]
            _attempt(asked["parameters"], asked["kill_at"], executor, writer)
        os.close(writer)
        with os.fdopen(reader) as said:
            lines = said.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"status": status, "lines": json.loads(lines) if lines else None}), flush=True)


class _Alive:
    """Stands for a process that is no child of this one, so that it cannot be asked."""

    def poll(self) -> None:
        return None


def _attempt(parameters: Mapping[str, Any], kill_at: int | None, executor: Any, writer: int) -> NoReturn:
    code = 1
    try:
        moments = 0

        @sys.addaudithook
        def count(event: str, _: object) -> None:
            nonlocal moments
            if event.startswith(MOMENTS):
                moments += 1
                if moments - 1 == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        lines = serve(parameters, executor)
        lines.append(str(moments))
        os.write(writer, json.dumps(lines).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)  # what this process was forked from closes what they share


def serve(parameters: Mapping[str, Any], executor: Any) -> list[str]:
    """What `sn37 validator run` does at one sync block: the epoch as its notebook plays it, then the weights."""
    from dataclasses import replace

    from sn37 import validator
    from sn37.competition import Competition
    from sn37.validator.journal import Journal
    from sn37.validator.service import keep_weights, run_epochs

    settings, lines = validator.Settings.of(**parameters), list[str]()
    subnet, hub = validator.connect(settings)

    def run(competition: Competition, sync_block: int) -> Mapping[str, object]:
        plan = validator.plan(replace(settings, competition=competition.name), subnet, hub)
        decided = validator.decide(validator.evaluate(validator.fetch(plan, subnet, hub), executor))
        published = validator.mirror(decided, validator.publish(decided, subnet), subnet, hub)
        return {"chain": published.chain}

    nap = functools.partial(max, 0.0)
    with subnet:
        run_epochs(settings, subnet, hub, run, Journal("epochs", settings.root, lines.append), sleep=nap, turns=2)
        keep_weights(settings, subnet, Journal("weights", settings.root, lines.append), sleep=nap, turns=1)
    return lines


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent)]
    main()
