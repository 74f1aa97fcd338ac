"""The miner: baseline training, the checks a validator makes, publishing."""

from __future__ import annotations

from sn37.miner.preflight import Preflight, preflight
from sn37.miner.publish import Publication, publish

__all__ = ["Preflight", "Publication", "preflight", "publish"]
