"""Functions that tests run in workers: good, slow, greedy and broken ones."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def echo(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    report({"saw": sorted(payload)})
    return {**payload, "pid": os.getpid()}


def surroundings(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    try:
        with socket.create_connection(("127.0.0.1", payload["port"]), timeout=2):
            reached = True
    except OSError:
        reached = False
    home = sorted(path.name for path in Path.home().iterdir())
    return {"env": dict(os.environ), "cwd": str(Path.cwd()), "reached": reached, "home": home}


def raises(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    import builtins

    from sn37 import errors

    kind = getattr(errors, payload["type"], None) or getattr(builtins, payload["type"])
    raise kind("the reason")


def kills_itself(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    os.kill(os.getpid(), signal.Signals[payload["signal"]])
    time.sleep(60)
    return {}


def leaves(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    os._exit(0)


def loops_with_children(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    """Children of both kinds: one of its session, one that has left it and lost its parent."""
    sleeper = "subprocess.Popen(['sleep', '600'], start_new_session=True, stdout=subprocess.DEVNULL)"
    program = f"import subprocess; p = {sleeper}; print(p.pid)"
    grandchild = int(subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout)
    child = subprocess.Popen(["sleep", "600"])
    report({"pids": [os.getpid(), child.pid, grandchild]})
    while True:
        time.sleep(1)


def swells(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20)) * 32)


def says_nonsense(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    """Leaves a result of its own making and ends as if all were well."""
    if payload["as"] == "link":
        Path("result.json").symlink_to("/etc/hostname")
    else:
        Path("result.json").write_text(payload["as"])
    os._exit(0)


def says_too_much(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    return {"text": "x" * payload["bytes"]}


def not_a_number(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    return {"loss": float("nan")}


def once_killed(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    """Waits to be killed the first time, answers the second."""
    mark = Path(payload["mark"])
    if mark.exists():
        return {"answer": payload["answer"]}
    mark.write_text("")
    report({"pid": os.getpid()})
    time.sleep(600)
    return {}


def evaluates_once_killed(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    """Waits to be killed the first time, evaluates the second."""
    from sn37.evaluation.job import evaluate

    job = {name: value for name, value in payload.items() if name != "mark"}
    return once_killed({**payload, "answer": None}, report) and evaluate(job, report)


def slow(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    began = time.monotonic()
    time.sleep(payload["seconds"])
    return {"began": began, "ended": time.monotonic(), "device": payload["device"], "threads": payload["threads"]}


def quick_or_looping(payload: dict[str, Any], report: Any) -> dict[str, Any]:
    return loops_with_children(payload, report) if payload["loop"] else {}
