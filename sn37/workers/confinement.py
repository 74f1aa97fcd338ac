"""What a worker process is denied: network, credentials, memory, files, other processes' mercy.

Linux first: a network namespace of its own, resource limits, no new privileges. Where the kernel does not
grant a namespace, Python's own sockets are refused instead.

What this does not protect against: code that runs inside the worker can read what the user can
read and write where the user can write, and without a namespace native code can still open sockets. That is why no
code of a model is ever run: the confinement is the second wall, against faults in the libraries that read
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
from typing import Any

__all__ = [
    "adopt_orphans",
    "die_with_parent",
    "environment",
    "limit_memory",
    "limit_resources",
    "memory_of",
    "without_network",
]

_KEPT = frozenset(("LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TZ", "VIRTUAL_ENV"))
_KEPT_PREFIXES = ("CUDA_", "LC_", "MKL_", "NVIDIA_", "OMP_")
_OFFLINE = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # equal sums in equal runs
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "WANDB_MODE": "disabled",
}
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A worker's environment: built from nothing, so that no token, proxy or setting travels along.

    home: an empty folder, in place of the user's (whose files hold tokens and keys).
    """
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    places = {"HOME": str(home), "HF_HOME": str(home / "hf"), "TMPDIR": str(home)}
    return kept | _OFFLINE | places | dict(extra or {})


def without_network() -> str:
    """Cut this process and all it starts off from every network; the way it was done.

    "namespace": the kernel's doing, loopback included; "refused": Python's sockets only.
    Must be called while the process has one thread.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        user, group = os.getuid(), os.getgid()
        if libc.unshare(_CLONE_NEWNET) == 0:
            return "namespace"
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
            # Without a map the process would own nothing, not even its own files.
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
            return "namespace"
    sys.addaudithook(_refuse_sockets)
    return "refused"


def _refuse_sockets(event: str, args: tuple[Any, ...]) -> None:
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


def limit_resources(max_file_bytes: int) -> None:
    """No core dumps, no file larger than `max_file_bytes`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))


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
