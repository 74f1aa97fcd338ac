"""What a disk refuses is the evaluator's fault; what a network refuses is not the disk's."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from sn37.errors import EvaluatorFault, HubFault, disk_faults


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.ENOTEMPTY, errno.EISDIR, errno.EIO])
def test_whatever_a_disk_refuses_is_one_sentence(tmp_path: Path, number: int) -> None:
    with pytest.raises(EvaluatorFault) as caught, disk_faults(tmp_path):
        raise OSError(number, "no")
    remedy = "free some space" if number in (errno.ENOSPC, errno.EFBIG) else "let this user write there"
    assert str(caught.value) == f"cannot write {tmp_path}: no; {remedy}"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "no"),
        TimeoutError(errno.ETIMEDOUT, "no"),
        OSError(errno.ENETUNREACH, "no"),
        socket.gaierror(socket.EAI_NONAME, "no"),
        OSError("a client's own"),
        HubFault("the hub is down"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_network_refuses_goes_through(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, disk_faults(tmp_path):
        raise error
    assert caught.value is error
