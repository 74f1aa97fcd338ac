"""What a validator asks of an executor: so many workers here, or as many as a cluster has room for."""

from __future__ import annotations

import pytest

from sn37.validator.evaluate import _devices
from sn37.validator.settings import Settings


@pytest.mark.parametrize(
    ("executor", "device", "workers", "devices"),
    [
        ("local", "cpu", 0, ("cpu",)),
        ("local", "cpu", 3, ("cpu",) * 3),
        ("local", "cuda", 2, ("cuda:0", "cuda:1")),
        ("ray", "auto", 0, ("auto:*",)),
        ("ray://head:10001", "cuda", 0, ("cuda:*",)),
        ("ray", "cuda", 4, ("cuda",) * 4),
    ],
)
def test_workers_are_asked_for_by_kind_and_number(
    executor: str, device: str, workers: int, devices: tuple[str, ...]
) -> None:
    assert _devices(Settings(executor=executor, device=device, workers=workers)) == devices
