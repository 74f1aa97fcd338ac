"""Payloads are taken as they come, results given as they finish, and a killed worker costs nothing but time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sn37.errors import ConfigError, ModelFault
from sn37.workers.executors import Limits, LocalExecutor, open_executor
from sn37.workers.isolation import WorkerDied

LIMITS = Limits(60.0)


@pytest.fixture(scope="module")
def executor(functions: str) -> Iterator[LocalExecutor]:
    with LocalExecutor(("cpu", "cpu"), [functions], cores=2) as executor:
        yield executor


def test_each_payload_gets_its_own_outcome(executor: LocalExecutor) -> None:
    payloads = [(str(i), {"type": "ModelFault"}) for i in range(3)]
    outcomes = dict(executor.run("worker_functions:raises", payloads, LIMITS))
    assert sorted(outcomes) == ["0", "1", "2"] and all(type(o) is ModelFault for o in outcomes.values())


def test_workers_run_side_by_side_and_share_the_cores(executor: LocalExecutor) -> None:
    payloads = [(str(i), {"seconds": 0.5}) for i in range(2)]
    first, second = (o for _, o in executor.run("worker_functions:slow", payloads, LIMITS))
    assert isinstance(first, dict) and isinstance(second, dict)
    assert first["threads"] == 1 and first["device"] == "cpu"
    assert max(first["began"], second["began"]) < min(first["ended"], second["ended"])


def test_the_next_payload_is_asked_for_while_one_is_evaluated(functions: str) -> None:
    events: list[str] = []

    def payloads() -> Iterator[tuple[str, dict[str, Any]]]:
        for i in range(4):
            events.append(f"ask {i}")
            yield str(i), {"seconds": 0.2}

    with LocalExecutor(("cpu",), [functions]) as executor:
        for key, _ in executor.run(f"{functions}:slow", payloads(), LIMITS):
            events.append(f"done {key}")
    assert events.index("ask 1") < events.index("done 0")
    # not all at once either: no more than one waits beside the one at work
    assert events.index("ask 3") > events.index("done 0")


def test_a_result_is_handed_out_before_the_next_payload_is_waited_for(executor: LocalExecutor) -> None:
    received: list[str] = []

    def payloads() -> Iterator[tuple[str, dict[str, Any]]]:
        for i in range(6):
            yield str(i), {}
        assert received, "the first results wait for the last payload"

    for key, _ in executor.run("worker_functions:echo", payloads(), LIMITS):
        received.append(key)
    assert sorted(received) == [str(i) for i in range(6)]


def test_a_killed_worker_is_replaced_and_the_result_is_the_same(executor: LocalExecutor, tmp_path: Path) -> None:
    def kill(key: str, message: dict[str, Any]) -> None:
        os.kill(message["pid"], signal.SIGKILL)

    payloads = [("a", {"mark": str(tmp_path / "mark"), "answer": 42})]
    ((_, outcome),) = executor.run("worker_functions:once_killed", payloads, LIMITS, kill)
    assert isinstance(outcome, dict) and outcome["answer"] == 42


def test_a_worker_that_always_dies_is_given_up(executor: LocalExecutor) -> None:
    payloads = [("a", {"signal": "SIGKILL"})]
    ((_, outcome),) = executor.run("worker_functions:kills_itself", payloads, LIMITS)
    assert isinstance(outcome, WorkerDied) and outcome.kind == "signal"


def test_an_error_in_the_payloads_ends_the_workers(functions: str) -> None:
    pids: list[int] = []

    def payloads() -> Iterator[tuple[str, dict[str, Any]]]:
        yield "a", {}
        while not pids:
            time.sleep(0.01)
        raise LookupError("no more")

    with (
        LocalExecutor(("cpu",), [functions]) as executor,
        pytest.raises(LookupError, match="no more"),
    ):
        list(executor.run(f"{functions}:loops_with_children", payloads(), LIMITS, lambda k, m: pids.extend(m["pids"])))
    while any(psutil.pid_exists(pid) for pid in pids):
        time.sleep(0.01)


def test_a_consumer_that_stops_ends_its_own_workers_only(executor: LocalExecutor) -> None:
    pids: list[int] = []

    def note(key: str, message: dict[str, Any]) -> None:
        pids.extend(message.get("pids", []))

    outer = executor.run("worker_functions:slow", [("a", {"seconds": 0.2}), ("b", {"seconds": 1.0})], LIMITS)
    assert next(outer)[0] == "a"
    inner = executor.run(
        "worker_functions:quick_or_looping", [("fast", {"loop": False}), ("loop", {"loop": True})], LIMITS, note
    )
    assert next(inner)[0] == "fast"
    while not pids:
        time.sleep(0.01)
    inner.close()
    while any(psutil.pid_exists(pid) for pid in pids):
        time.sleep(0.01)
    ((key, outcome),) = outer
    assert key == "b" and isinstance(outcome, dict)


@pytest.mark.parametrize("devices", [(), ("gpu",), ("cuda",), ("cuda:x",)])
def test_a_device_that_does_not_exist_is_an_error(devices: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="device"):
        LocalExecutor(devices)


def test_an_unknown_executor_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'elsewhere'"):
        open_executor("elsewhere")
