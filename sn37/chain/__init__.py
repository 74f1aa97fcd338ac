"""The subnet through the bittensor SDK: blocks, metagraph, commitments, weights, signatures."""

from sn37.chain.connection import StatePruned
from sn37.chain.keys import open_wallet, verify
from sn37.chain.subnet import Subnet, weights_version
from sn37.chain.values import Metagraph, Neuron, WeightsResult

__all__ = [
    "Metagraph",
    "Neuron",
    "StatePruned",
    "Subnet",
    "WeightsResult",
    "open_wallet",
    "verify",
    "weights_version",
]
