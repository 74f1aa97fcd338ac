"""What the stages of an epoch share: a fault is written into the epoch's folder before it is raised."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sn37 import errors
from sn37.errors import ConfigError, Sn37Error
from sn37.records.epochs import Epoch
from sn37.records.faults import Fault, StageFault

__all__ = ["kept_fault"]


@contextlib.contextmanager
def kept_fault(epoch: Epoch, stage: str) -> Iterator[None]:
    """Keep the fault that stops a stage in the epoch's folder, and raise it as one of this library's own types.

    What only the user can mend goes through as it is: it is no fault of the epoch.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        fault = Fault.of(error)
        with contextlib.suppress(Sn37Error):
            epoch.write(StageFault(fault.owner, fault.reason, stage))
        if type(error).__module__ == errors.__name__:
            raise
        # Whoever started the notebook sees no more of an error than its name: only the names of `sn37.errors` tell
        # an owner.
        raise fault.error() from error
