"""A worker can hurt nobody, and whatever becomes of it is told apart."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sn37 import errors
from sn37.workers.isolation import ForkServer, WorkerDied
from sn37.workers.sandbox import Network


@pytest.fixture(scope="module")
def server(functions: str) -> Iterator[ForkServer]:
    with ForkServer([functions]) as server:
        yield server


def call(function: str, payload: dict[str, Any], *, network: Network = "isolated", **limits: Any) -> dict[str, Any]:
    with ForkServer(network=network) as server:
        return server.call(function, payload, **limits)


def run(server: ForkServer, name: str, payload: dict[str, Any] | None = None, **limits: Any) -> dict[str, Any]:
    return server.call(f"worker_functions:{name}", payload or {}, **{"time_limit_s": 60.0, **limits})


def died(server: ForkServer, name: str, payload: dict[str, Any] | None = None, **limits: Any) -> WorkerDied:
    with pytest.raises(WorkerDied) as caught:
        run(server, name, payload, **limits)
    return caught.value


def test_a_call_returns_data_and_passes_progress_on(server: ForkServer) -> None:
    seen: list[dict[str, Any]] = []
    result = run(server, "echo", {"a": [1, "é"]}, on_progress=seen.append)
    assert result["a"] == [1, "é"] and seen == [{"saw": ["a"]}]
    assert result["pid"] not in (os.getpid(), run(server, "echo")["pid"])


def test_a_call_without_a_server_starts_a_process_of_its_own(functions: str) -> None:
    assert call(f"{functions}:echo", {"a": 1}, time_limit_s=60)["a"] == 1


SECRETS = (
    *("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "CUDA_API_KEY", "LC_SECRET"),
    *("MKL_TOKEN", "NVIDIA_API_KEY", "OMP_PASSWORD", "PATH_TOKEN", "PYTHONPATH_TOKEN"),
)


def test_a_worker_has_no_network_no_credentials_and_an_empty_home(
    functions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*SECRETS, "https_proxy", "HTTPS_PROXY", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "secret")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = call(f"{functions}:surroundings", {"port": listening.getsockname()[1]}, time_limit_s=60)
    assert not found["reached"]
    assert "secret" not in found["env"].values()
    assert found["env"]["HF_HUB_OFFLINE"] == "1" and found["env"]["HOME"] == found["cwd"] != str(Path.home())
    assert set(found["home"]) == {"payload.json", "log"}


def test_a_worker_keeps_listed_variables_only(functions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "2", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    before = set(call(f"{functions}:surroundings", {"port": 1}, time_limit_s=60)["env"])
    for name in SECRETS:
        monkeypatch.setenv(name, "harmless")
    found = call(f"{functions}:surroundings", {"port": 1}, time_limit_s=60)["env"]
    assert set(found) == before and kept.items() <= found.items()


def test_a_worker_that_fetches_has_the_network_and_no_credentials(
    functions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        payload = {"port": listening.getsockname()[1]}
        found = call(f"{functions}:surroundings", payload, network="open", time_limit_s=60)
    assert found["reached"] and "secret" not in found["env"].values()
    assert "HF_HUB_OFFLINE" not in found["env"] and found["env"]["https_proxy"] == "http://proxy.example:3128"


def test_without_a_network_namespace_a_worker_starts_only_where_that_is_accepted(functions: str) -> None:
    program = """
import sys
from unshare_denied import deny
from sn37.errors import ConfigError
from sn37.workers.executors import Limits, LocalExecutor
from sn37.workers.isolation import ForkServer
if not deny():
    sys.exit(77)
try:
    with ForkServer() as server:
        print("started", server.call("worker_functions:echo", {}, time_limit_s=60))
except ConfigError as error:
    print(error)
try:
    with LocalExecutor() as executor:
        print("started", list(executor.run("worker_functions:echo", [("a", {})], Limits(60.0))))
except ConfigError as error:
    print(error)
with ForkServer(network="isolation not required") as server:
    print(server.call("worker_functions:surroundings", {"port": 1}, time_limit_s=60)["reached"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this machine allows no seccomp filter")
    assert done.returncode == 0, done.stderr
    first, second, reached = done.stdout.splitlines()
    assert "worker_network = 'isolation not required'" in first and second == first and reached == "False"


@pytest.mark.parametrize(
    "name", ["ConfigError", "ModelFault", "DataFault", "EvaluatorFault", "SubmissionFault", "ChainFault"]
)
def test_an_error_with_an_owner_keeps_it(server: ForkServer, name: str) -> None:
    with pytest.raises(errors.Sn37Error, match="the reason") as caught:
        run(server, "raises", {"type": name})
    assert type(caught.value) is getattr(errors, name)


@pytest.mark.parametrize(
    ("name", "kind"), [("ValueError", "error"), ("SystemExit", "error"), ("MemoryError", "memory")]
)
def test_any_other_error_is_nobodys_yet(server: ForkServer, name: str, kind: str) -> None:
    death = died(server, "raises", {"type": name})
    assert death.kind == kind and death.owner == "evaluator"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_killed_worker_is_told_by_its_signal(server: ForkServer, name: str) -> None:
    death = died(server, "kills_itself", {"signal": name})
    assert death.kind == "signal" and name in str(death)


def test_a_worker_over_its_time_is_killed_with_all_its_children(server: ForkServer) -> None:
    seen: list[dict[str, Any]] = []
    death = died(server, "loops_with_children", time_limit_s=2, on_progress=seen.append)
    assert death.kind == "time" and "2 s" in str(death)
    (message,) = seen
    assert len(message["pids"]) == 3 and not any(psutil.pid_exists(pid) for pid in message["pids"])


@pytest.mark.parametrize("fail_allocations", [True, False])
def test_a_worker_over_its_memory_is_stopped(server: ForkServer, fail_allocations: bool) -> None:
    death = died(server, "swells", memory_bytes=200 << 20, fail_allocations=fail_allocations)
    assert death.kind == "memory"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"ok": 3}', '{"fault": 1}', '{"died": ["of age", ""]}', "[" * 100_000, "link"]
)
def test_a_result_that_is_none_is_garbage(server: ForkServer, text: str) -> None:
    assert died(server, "says_nonsense", {"as": text}).kind == "garbage"


@pytest.mark.parametrize("kind", ["Exception", "Path", "__name__", "nothing"])
def test_a_fault_names_only_this_librarys_errors(server: ForkServer, kind: str) -> None:
    with pytest.raises(errors.EvaluatorFault, match="boo"):
        run(server, "says_nonsense", {"as": f'{{"fault": ["{kind}", "boo"]}}'})


def test_a_worker_without_a_result_died(server: ForkServer) -> None:
    assert died(server, "leaves").kind == "garbage"
    assert died(server, "not_a_number").kind == "error"
    assert died(server, "no_such_function").kind == "error"


def test_a_result_larger_than_allowed_is_refused(server: ForkServer) -> None:
    assert died(server, "says_too_much", {"bytes": 100_000}, max_result_bytes=50_000).kind in ("garbage", "error")
    too_much = died(server, "says_too_much", {"bytes": 100_000}, max_result_bytes=50_000, max_file_bytes=1 << 20)
    assert too_much.kind == "garbage"
    assert len(run(server, "says_too_much", {"bytes": 100_000}, max_result_bytes=200_000)["text"]) == 100_000


def test_a_lost_server_is_told_and_started_again(functions: str) -> None:
    with ForkServer([functions]) as server:
        assert run(server, "echo", {"a": 1})["a"] == 1
        server.stop()
        assert run(server, "echo", {"a": 2})["a"] == 2


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_program_that_started_them(functions: str, sent: signal.Signals) -> None:
    program = (
        "from sn37.workers.isolation import ForkServer\n"
        f"ForkServer().call('{functions}:loops_with_children', {{}}, time_limit_s=600,"
        " on_progress=lambda m: print(*m['pids'], flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 3 and all(psutil.pid_exists(pid) for pid in pids)
        process.send_signal(sent)
    while any(psutil.pid_exists(pid) for pid in pids):
        time.sleep(0.01)


def test_an_error_in_the_progress_callback_ends_the_worker(server: ForkServer) -> None:
    pids: list[int] = []

    def fail(message: dict[str, Any]) -> None:
        pids.extend(message["pids"])
        raise OSError("the screen is gone")

    with pytest.raises(OSError, match="the screen is gone"):
        run(server, "loops_with_children", on_progress=fail)
    while any(psutil.pid_exists(pid) for pid in pids):
        time.sleep(0.01)


def test_nothing_is_left_on_disk(functions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with contextlib.suppress(WorkerDied):
        call(f"{functions}:kills_itself", {"signal": "SIGKILL"}, time_limit_s=60)
    assert list(tmp_path.iterdir()) == []


def test_modules_that_cannot_be_imported_are_told(server: ForkServer) -> None:
    with ForkServer(["no_such_module"]) as broken:
        for _ in range(2):
            death = died(broken, "echo")
            assert death.kind == "lost" and "no_such_module" in str(death)


def test_an_error_is_quoted_no_longer_than_needed(server: ForkServer) -> None:
    with pytest.raises(errors.ModelFault) as caught:
        run(server, "says_nonsense", {"as": f'{{"fault": ["ModelFault", "{"x" * 1_000_000}"]}}'})
    assert len(str(caught.value)) == 2000
