"""The embedded hub as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from sn37.devnet.chain import Chain
from sn37.devnet.hub import HubServer
from sn37.errors import ConfigError

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as server:
        yield server


def started(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sn37.devnet.hub", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.fixture
def stopped() -> Iterator[Callable[[subprocess.Popen[str]], None]]:
    """Registers processes to be stopped after the test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes.append
    for process in processes:
        process.terminate()
        process.communicate()


def test_as_a_process_it_takes_its_time_from_the_chain(tmp_path: Path, stopped: Callable[..., None]) -> None:
    chain = Chain.create(tmp_path / "chain.sqlite", started_at=NOON)
    process, endpoint = started("--root", str(tmp_path / "hub"), "--chain", str(tmp_path / "chain.sqlite"))
    stopped(process)
    (tmp_path / "hub" / "tokens.json").write_text('{"hf_a": "alice"}')
    api = HfApi(endpoint=endpoint, token="hf_a")
    api.create_repo("alice/model")
    assert api.list_repo_commits("alice/model")[0].created_at == chain.now()


def test_a_busy_port_and_a_busy_folder_are_one_sentence(
    tmp_path: Path, hub: HubServer, stopped: Callable[..., None]
) -> None:
    for root, port, reason in (
        (tmp_path / "other", hub.port, f"cannot listen on 127.0.0.1:{hub.port}"),
        (hub.root, 0, "is already served by another process"),
        (tmp_path / "other", 70_000, "choose a free port"),
    ):
        process, _ = started("--root", str(root), "--port", str(port))
        _, said = process.communicate()
        assert process.returncode == 2
        assert reason in said
        assert len(said.splitlines()) == 1
        with pytest.raises(ConfigError, match=reason):
            HubServer(root, port=port)


def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path, stopped: Callable[..., None]) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "tokens.json").write_text('{"hf_a": "alice"}')
    process, endpoint = started("--root", str(tmp_path / "hub"))
    api = HfApi(endpoint=endpoint, token="hf_a")
    api.create_repo("alice/model")
    commit = api.upload_file(path_or_fileobj=b"x" * 9000, path_in_repo="x.bin", repo_id="alice/model").oid
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (tmp_path / "hub" / "incoming" / "half").write_bytes(b"x")
    process, endpoint = started("--root", str(tmp_path / "hub"))
    stopped(process)
    assert HfApi(endpoint=endpoint, token="hf_a").model_info("alice/model").sha == commit
    assert list((tmp_path / "hub" / "incoming").iterdir()) == []
