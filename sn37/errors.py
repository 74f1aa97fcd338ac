"""The errors of the library: one type per boundary, each with its owner.

    Sn37Error
    ├── ConfigError      ValueError       owner "user"       a file, a parameter or a setting is wrong
    ├── ModelFault       ValueError       owner "model"      the miner's submission is at fault
    ├── DataFault        LookupError      owner "data"       the samples cannot be had
    ├── EvaluatorFault   RuntimeError     owner "evaluator"  this machine or the code on it failed
    │   └── HubFault     ConnectionError  owner "evaluator"  the hub did not answer
    │       └── SubmissionFault           owner "submission" one submission cannot be had while the hub serves others
    └── ChainFault       ConnectionError  owner "chain"      the chain did not answer, or refused

A fault's owner decides its consequence: only the owner "model" costs a miner anything. For the owner
"submission" the epoch waits twice; the third time that submission is set aside and the others are decided. After every
other fault the old weights stand and the epoch is tried again.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

Owner = Literal["user", "model", "submission", "data", "evaluator", "chain"]

__all__ = [
    "ChainFault",
    "ConfigError",
    "DataFault",
    "EvaluatorFault",
    "HubFault",
    "ModelFault",
    "Owner",
    "Sn37Error",
    "SubmissionFault",
    "disk_fault",
    "disk_faults",
    "is_full",
]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NETWORK = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)


class Sn37Error(Exception):
    """Base of everything this library raises on purpose."""

    owner: ClassVar[Owner] = "evaluator"


class ConfigError(Sn37Error, ValueError):
    """A file, a parameter or a setting is wrong; the text names it, what was expected and what to do."""

    owner = "user"


class ModelFault(Sn37Error, ValueError):
    """A submission breaks a rule; the text is the reason kept with it."""

    owner = "model"


class DataFault(Sn37Error, LookupError):
    """The samples of a task cannot be had as the protocol demands."""

    owner = "data"


class EvaluatorFault(Sn37Error, RuntimeError):
    """This machine, or the code on it, failed: no miner pays for it."""

    owner: ClassVar[Owner] = "evaluator"


class HubFault(EvaluatorFault, ConnectionError):
    """The hub did not answer, or not in time: no miner pays for it."""


class SubmissionFault(HubFault):
    """Trouble of the hub with one submission only (its repo answers 500, its download stalls): the hub serves others.

    No definite refusal, which would be a ModelFault. Protocol, section 7: waited for twice, then set aside.
    """

    owner = "submission"


class ChainFault(Sn37Error, ConnectionError):
    """The chain did not answer in time, or refused what was sent to it."""

    owner = "chain"


def is_full(error: OSError) -> bool:
    """Whether the disk takes no more."""
    return error.errno in _FULL


def disk_fault(error: OSError, path: Path | str) -> EvaluatorFault:
    """What a disk that is full, gone or closed to us says while we write at `path`, in one sentence."""
    remedy = "free some space" if is_full(error) else "let this user write there"
    return EvaluatorFault(f"cannot write {error.filename or path}: {error.strerror or error}; {remedy}")


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Turn what a disk refuses into the evaluator's fault; errors of the network are the same type and go through."""
    try:
        yield
    except OSError as error:
        # Names that cannot be resolved have negative numbers, the errors of clients none.
        if isinstance(error, ConnectionError | TimeoutError) or (error.errno or 0) <= 0 or error.errno in _NETWORK:
            raise
        raise disk_fault(error, path) from error
