"""What a worker process is denied: network, credentials, memory, files, other processes' mercy.

Linux first: a network namespace of its own, resource limits, no new privileges. Where the kernel grants no
namespace a worker does not start, unless its user accepts that Python's own sockets are all that is refused.

What this does not protect against: code that runs inside the worker can read what the user can
read and write where the user can write, and without a namespace native code can still open sockets. That is why no
code of a model is ever run: the sandbox is the second wall, against faults in the libraries that read
its weights and its tokenizer. It is no sandbox for arbitrary programs.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

__all__ = [
    "NETWORKS",
    "Network",
    "adopt_orphans",
    "die_with_parent",
    "environment",
    "isolate_network",
    "limit_file_size",
    "limit_memory",
    "memory_of",
]

Network = Literal["isolated", "isolation not required", "open"]
"""What a worker has of the network: nothing, or no start; nothing, as far as the kernel allows; all of it."""

NETWORKS: tuple[Network, ...] = ("isolated", "isolation not required")
"""What a validator may choose for the workers that evaluate models."""

_KEPT = frozenset(
    (
        *("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TZ", "VIRTUAL_ENV"),
        *("CUDA_DEVICE_ORDER", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES"),
        *("NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_VISIBLE_DEVICES"),
        *("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OMP_PLACES", "OMP_PROC_BIND"),
    )
)
"""All that a worker keeps of the environment, by exact name: whole families of names could hold a secret."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_KEPT_WITH_NETWORK = frozenset(
    (
        *_PROXIES,
        *(name.upper() for name in _PROXIES),
        *("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    )
)
_ALWAYS = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # equal sums in equal runs
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "WANDB_MODE": "disabled",
}
_OFFLINE = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38


def environment(home: Path, network: Network, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A worker's environment: built from nothing, so that no token or setting travels along.

    home: an empty folder, in place of the user's (whose files hold tokens and keys); network: with the
    network a worker also keeps the proxies and the certificates of the machine.
    """
    names = _KEPT | _KEPT_WITH_NETWORK if network == "open" else _KEPT
    kept = {name: os.environ[name] for name in names if name in os.environ}
    places = {"HOME": str(home), "HF_HOME": str(home / "hf"), "TMPDIR": str(home)}
    return kept | _ALWAYS | ({} if network == "open" else _OFFLINE) | places | dict(extra or {})


def isolate_network() -> str | None:
    """Cut this process and all it starts off from every network, loopback included.

    Returns None where the kernel has done it, else why it has not: then Python's own sockets are refused, which
    native code gets around. Must be called while the process has one thread.
    """
    why = _enter_network_namespace()
    if why is not None:
        sys.addaudithook(_refuse_sockets)
    return why


def _enter_network_namespace() -> str | None:
    if sys.platform != "linux":
        return f"{sys.platform} has no network namespaces"
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWNET) == 0:
        return None
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return f"the kernel grants no network namespace: {os.strerror(ctypes.get_errno())}"
    # Without a map the process would own nothing, not even its own files.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return None


def _refuse_sockets(event: str, _: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"):
        raise PermissionError("no network here")


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies, and deny it new privileges."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that none escapes a kill."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def limit_file_size(max_bytes: int) -> None:
    """No file larger than `max_bytes`, and no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))


def limit_memory(max_bytes: int) -> None:
    """Let allocations fail once this process holds about `max_bytes` more private memory than now.

    Files mapped for reading do not count, nor does address space merely reserved.
    """
    if sys.platform == "linux":
        limit = _status("VmData", "self") + max_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def memory_of(pid: int) -> int:
    """Bytes of private and shared memory a process holds, mapped files left out; 0 once it is gone."""
    if sys.platform == "linux":
        return _status("RssAnon", pid) + _status("RssShmem", pid)
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _status(field: str, pid: int | str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    values = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(values[0]) * 1024 if values else 0
