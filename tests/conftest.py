"""What holds for every test: nothing leaves this machine, nothing touches the user's own files."""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

_HOME = Path(tempfile.mkdtemp(prefix="sn37-tests-"))

# Before any client is imported, for some read their environment then.
os.environ.update(
    BTCLI_TOKEN_SYMBOLS_CACHE=str(_HOME / "token_symbols.json"),
    HF_HOME=str(_HOME / "huggingface"),
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_XET="1",
    IPYTHONDIR=str(_HOME / "ipython"),
    JUPYTER_CONFIG_DIR=str(_HOME / "jupyter"),
    MPLBACKEND="agg",
    MPLCONFIGDIR=str(_HOME / "matplotlib"),
    NO_PROXY="localhost,127.0.0.1,::1",
    OMP_NUM_THREADS="1",
    RAY_AUTH_MODE="token",
    RAY_AUTH_TOKEN="0" * 64,
    TOKENIZERS_PARALLELISM="false",
    WANDB_CACHE_DIR=str(_HOME / "wandb-cache"),
    WANDB_CONFIG_DIR=str(_HOME / "wandb-config"),
    WANDB_DIR=str(_HOME),
    WANDB_MODE="offline",
    WANDB_SILENT="true",
)
for _name in (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY"),
    *("HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "HF_DATASETS_OFFLINE"),
    *("TRANSFORMERS_OFFLINE", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_RUN_ID", "no_proxy"),
):
    os.environ.pop(_name, None)

# The same examples in every run: a gate that fails, fails again.
settings.register_profile("sn37", deadline=None, derandomize=True, database=None)
settings.load_profile("sn37")

_online = False


def _stay_on_this_machine(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect" or _online:
        return
    address = arguments[1]
    if isinstance(address, tuple) and not _loopback(str(address[0])):
        raise RuntimeError(f"a test tried to reach {address[0]}; tests talk to this machine only")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


sys.addaudithook(_stay_on_this_machine)


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `live`, `slow`, `soak` or `gpu` are left out where they are not asked for, or cannot run."""
    names = ("live", "slow", "soak", "gpu")
    marked = {name: [item for item in items if item.get_closest_marker(name)] for name in names}
    if "live" not in config.option.markexpr:
        for item in marked["live"]:
            item.add_marker(pytest.mark.skip(reason="needs the live network: ask for it with -m live"))
    for name in ("slow", "soak"):
        if name not in config.option.markexpr:
            config.hook.pytest_deselected(items=marked[name])
            left_out = set(marked[name])
            items[:] = [item for item in items if item not in left_out]
    if marked["gpu"]:
        import torch

        if not torch.cuda.is_available():
            for item in marked["gpu"]:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _network_only_for_live_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    global _online
    _online = request.node.get_closest_marker("live") is not None
    yield
    _online = False


@pytest.fixture
def fresh() -> Callable[[str], str]:
    """Runs code in new interpreters with different hash seeds; what they print must be the same."""

    def run(code: str) -> str:
        printed = {
            subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("0", "1", "4242")
        }
        assert len(printed) == 1, f"interpreters disagree: {printed}"
        return printed.pop().strip()

    return run
