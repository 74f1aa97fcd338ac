"""Through Ray the same results as on this machine alone, whatever is killed; what cannot be had is said at once."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from sn37.checks.tokenizer import byte_tokenizer
from sn37.competition import Competition, Constraints, EvalTask, Fixed
from sn37.errors import ConfigError, EvaluatorFault, ModelFault
from sn37.evaluation.job import Job
from sn37.evaluation.run import FUNCTION, preloaded
from sn37.sample import ReferenceSample, TextSample
from sn37.workers import ray_node
from sn37.workers.executors import Limits, LocalExecutor, Outcome, open_executor
from sn37.workers.isolation import WorkerDied
from sn37.workers.ray_node import Resources, Task

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra 'ray'")

LIMITS = Limits(300.0)
COMPETITION = Competition(
    1,
    "TINY",
    Constraints(("LlamaForCausalLM",), 1_000_000, 1 << 30, 128, None, 0, dtype="bfloat16"),
    Fixed(0.01),
    (
        EvalTask("TEXTS", "any", "text_loss", 0.5, method_args={"sanity_check": False}),
        EvalTask("REPLIES", "any", "reference_loss", 0.5),
    ),
)
SAMPLES = {
    "TEXTS": [TextSample(f"The river rose by {i} feet in the night, and nobody slept.") for i in range(8)],
    "REPLIES": [ReferenceSample("Where is the key?", "Under the mat.")],
}


@pytest.fixture(scope="module")
def executor(functions: str) -> Iterator[Any]:
    """This machine through Ray, one worker at a time."""
    with open_executor("ray", ("cpu",), [functions]) as executor:
        yield executor
    with warnings.catch_warnings():
        # Ray ends the processes it has started without waiting for them.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def payload(build_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    folder = tmp_path_factory.mktemp("model")
    build_model("llama", vocab_size=257).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return Job.of(COMPETITION, folder, SAMPLES, tokenizer=None).payload()


def values(outcome: Outcome) -> dict[str, list[float]]:
    assert isinstance(outcome, dict), outcome
    return {name: task["values"] for name, task in outcome["tasks"].items()}


def descendants(name: str) -> list[psutil.Process]:
    """The processes below this one that are called so."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.name() == name or process.cmdline()[:1] == [name]:
                found.append(process)
    return found


@needs_ray
@pytest.mark.parametrize("name", ["ray", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_an_error_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at .*127") as caught:
        open_executor(name)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.slow
@needs_ray
def test_scores_are_those_of_this_machine_though_ray_s_worker_is_killed(
    executor: Any, functions: str, payload: Mapping[str, Any], tmp_path: Path
) -> None:
    killed: list[psutil.Process] = []

    def kill_once(key: str, message: dict[str, Any]) -> None:
        if "pid" in message:
            task = next(p for p in psutil.Process(message["pid"]).parents() if p.cmdline()[0].startswith("ray::"))
            killed.extend((task, *task.children(recursive=True)))
            task.send_signal(signal.SIGKILL)

    asked = {**payload, "mark": str(tmp_path / "mark")}
    modules = [*preloaded(COMPETITION.constraints.architectures), functions]
    with open_executor("ray", ("cpu",), modules) as again, LocalExecutor(("cpu",), modules) as local:
        assert local.threads == executor.resources.cpus
        ((_, through_ray),) = again.run(f"{functions}:evaluates_once_killed", [("a", asked)], LIMITS, kill_once)
        ((_, here),) = local.run(FUNCTION, [("a", payload)], LIMITS)
    assert values(through_ray) == values(here)
    assert len(killed) > 2, "a task, what it started, and the worker were there to be killed"
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in killed):
        time.sleep(0.05)


@needs_ray
def test_each_payload_gets_its_own_outcome_in_a_process_of_its_own(executor: Any, functions: str) -> None:
    outcomes = dict(executor.run(f"{functions}:echo", [(key, {"saw": key}) for key in "abc"], LIMITS))
    assert {key: outcome["saw"] for key, outcome in outcomes.items()} == {"a": "a", "b": "b", "c": "c"}
    assert len({outcome["pid"] for outcome in outcomes.values()}) == 3
    assert {outcome["device"] for outcome in outcomes.values()} == {"cpu"}
    ((_, fault),) = executor.run(f"{functions}:raises", [("a", {"type": "ModelFault"})], LIMITS)
    assert type(fault) is ModelFault and str(fault) == "the reason"


@needs_ray
def test_a_killed_worker_is_replaced_and_one_that_always_dies_is_given_up(
    executor: Any, functions: str, tmp_path: Path
) -> None:
    def kill(key: str, message: dict[str, Any]) -> None:
        os.kill(message["pid"], signal.SIGKILL)

    asked = {"mark": str(tmp_path / "mark"), "answer": 42}
    ((_, outcome),) = executor.run(f"{functions}:once_killed", [("a", asked)], LIMITS, kill)
    assert isinstance(outcome, dict) and outcome["answer"] == 42
    ((_, outcome),) = executor.run(f"{functions}:kills_itself", [("a", {"signal": "SIGKILL"})], LIMITS)
    assert isinstance(outcome, WorkerDied) and outcome.kind == "signal"


@needs_ray
def test_a_consumer_that_stops_ends_its_workers(executor: Any, functions: str) -> None:
    payloads = [("fast", {"loop": False}), ("loop", {"loop": True})]
    outcomes = executor.run(f"{functions}:quick_or_looping", payloads, LIMITS)
    assert next(outcomes)[0] == "fast"
    while len(loops := descendants("sleep")) < 2:
        time.sleep(0.05)
    outcomes.close()
    while any(loop.is_running() for loop in loops):
        time.sleep(0.05)


@needs_ray
@pytest.mark.parametrize(
    ("devices", "asked"),
    [
        (("cpu",) * 500, "500 models at once, with 1 CPU each"),
        (("cuda:0",), "1 model at once, with 1 CPU and 1 GPU"),
    ],
)
def test_what_the_cluster_can_never_give_is_an_error_at_once(
    executor: Any, devices: tuple[str, ...], asked: str
) -> None:
    with pytest.raises(ConfigError, match=asked) as caught:
        open_executor("ray", devices)
    assert "1 node:" in str(caught.value) and f"{os.cpu_count()} CPU" in str(caught.value)


@needs_ray
def test_another_cluster_than_the_one_connected_to_is_an_error(executor: Any) -> None:
    with pytest.raises(ConfigError, match="already"):
        open_executor("ray://127.0.0.1:1")


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"sn37\[ray\]"):
        open_executor("ray")


SMALL, LARGE, GPU = {"CPU": 4.0}, {"CPU": 16.0}, {"CPU": 32.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("devices", "nodes", "cpus", "gpus", "places"),
    [
        (("cpu",), [SMALL], 4, 0, 1),
        (("cpu", "cpu"), [SMALL], 2, 0, 2),
        (("cpu",) * 3, [SMALL], 1, 0, 4),
        (("cpu:*",), [SMALL], 4, 0, 1),
        (("cpu:*",), [SMALL, LARGE], 4, 0, 5),
        (("cpu", "cpu"), [SMALL, SMALL], 4, 0, 2),
        (("cuda:0",), [GPU], 32, 1, 1),
        (("cuda:0", "cuda:1"), [GPU], 16, 1, 2),
        (("cuda:*",), [SMALL, GPU, GPU], 8, 1, 8),
        (("auto:*",), [SMALL, GPU], 8, 1, 4),
        (("auto:*",), [{"CPU": 0.0}, SMALL], 4, 0, 1),
        (("cuda:*",), [SMALL], 1, 1, 0),
        (("cpu",), [], 1, 0, 0),
    ],
)
def test_workers_get_equal_parts_of_the_smallest_node(
    devices: tuple[str, ...], nodes: list[dict[str, float]], cpus: int, gpus: int, places: int
) -> None:
    found = Resources.of(devices, nodes)
    assert (found.cpus, found.gpus, sum(found.workers_on(node) for node in nodes)) == (cpus, gpus, places)


@pytest.mark.parametrize("devices", [("gpu",), ("cpu", "cuda:0"), ()])
def test_devices_that_mean_nothing_are_an_error(devices: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="devices"):
        Resources.of(devices, [SMALL])


def task(payload: Mapping[str, Any], functions: str, **changes: Any) -> Task:
    given = Task(
        function=f"{functions}:echo",
        payload=dict(payload),
        modules=[],
        network="isolated",
        versions=ray_node.versions(),
        files=ray_node.files_of(payload),
        time_limit_s=60.0,
        memory_bytes=None,
        cpus=1,
        gpus=0,
    )
    return replace(given, **changes)


def test_a_task_travels_as_json(functions: str) -> None:
    sent = task({"name": "no path"}, functions)
    assert Task(**json.loads(sent.to_json())) == sent


def test_a_node_with_other_files_or_versions_costs_no_miner_anything(
    functions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_node, "_FILES_WAIT_S", 0.1)
    (tmp_path / "config.json").write_text("{}")
    payload = {"model": str(tmp_path), "tokenizer": None, "name": "no path"}
    good = task(payload, functions)
    assert good.files == {str(tmp_path): {"config.json": 2}}
    outcome = ray_node.evaluate(good, None, 1 << 30)
    assert isinstance(outcome, dict) and outcome["model"] == str(tmp_path)
    (tmp_path / "config.json").write_text("{} ")
    outcome = ray_node.evaluate(good, None, 1 << 30)
    assert type(outcome) is EvaluatorFault and str(tmp_path) in str(outcome)
    other = task(payload, functions, versions={**ray_node.versions(), "torch": "1.0"})
    outcome = ray_node.evaluate(other, None, 1 << 30)
    assert type(outcome) is EvaluatorFault and "torch" in str(outcome)
