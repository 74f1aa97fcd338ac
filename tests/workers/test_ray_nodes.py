"""A node that is lost while it evaluates costs nothing but time: another one does the work."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sn37.workers.executors import Limits, open_executor

pytest.importorskip("ray", reason="needs the extra 'ray'")


@pytest.fixture
def cluster(functions: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one CPU each on this machine, behind a head that works nothing itself."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{cluster.address.rpartition(':')[2]}")
    yield cluster
    cluster.shutdown()
    with warnings.catch_warnings():
        # Ray ends the processes it has started without waiting for them.
        warnings.simplefilter("ignore", ResourceWarning)
        del cluster
        gc.collect()


def test_a_lost_node_s_model_is_evaluated_elsewhere(cluster: Any, functions: str, tmp_path: Path) -> None:
    lost: list[Any] = []

    def pull_the_plug(key: str, message: dict[str, Any]) -> None:
        above = {process.pid for process in psutil.Process(message["pid"]).parents()}
        (node,) = (n for n in cluster.worker_nodes if n.all_processes["raylet"][0].process.pid in above)
        cluster.remove_node(node, allow_graceful=False)
        lost.append(node)

    asked = {"mark": str(tmp_path / "mark"), "answer": 42}
    with open_executor("ray", ("cpu:*",), [functions]) as executor:
        ((_, outcome),) = executor.run(f"{functions}:once_killed", [("a", asked)], Limits(300.0), pull_the_plug)
    assert len(lost) == 1
    assert isinstance(outcome, dict) and outcome["answer"] == 42
