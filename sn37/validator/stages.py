"""What the stages of an epoch share: a fault is written beside the epoch before it is raised."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sn37.errors import ConfigError, Sn37Error
from sn37.validator.faults import Fault
from sn37.validator.records import Epoch

__all__ = ["undecided_on_fault"]


@contextlib.contextmanager
def undecided_on_fault(epoch: Epoch, stage: str) -> Iterator[None]:
    """Keep the fault that leaves an epoch undecided in its work folder, and raise it on."""
    try:
        yield
    except ConfigError:
        raise
    except Sn37Error as error:
        if not epoch.sealed:
            with contextlib.suppress(Sn37Error):
                epoch.write("fault.json", {"stage": stage, **Fault.of(error).to_dict()})
        raise
