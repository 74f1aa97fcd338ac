"""sn37: a Jupyter-first research toolkit for finetuning competitions on Bittensor (subnet 37).

The names here are the rules of the game: values and pure functions, without chain, hub or GPU.
What does the work lies in the packages beside them: `sn37.chain`, `sn37.hub`, `sn37.sources`,
`sn37.methods`, `sn37.engine`, `sn37.validator`, `sn37.miner`, `sn37.analysis`.
"""

from __future__ import annotations

from sn37.clock import Clock, generator, picked_up, seed_of
from sn37.competition import (
    Competition,
    Constraints,
    EvalTask,
    Evaluation,
    Fixed,
    InverseExponential,
    LinearDecay,
    Unnormalized,
)
from sn37.errors import (
    ChainFault,
    ConfigError,
    DataFault,
    EvaluatorFault,
    HubFault,
    ModelFault,
    Sn37Error,
    SubmissionFault,
)
from sn37.incentive import (
    Contender,
    Reign,
    beats,
    competition_weights,
    moving_average,
    reign,
    subnet_weights,
)
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, TextSample
from sn37.schedule import Period, Schedule, Share, fund
from sn37.submission import ModelId, Submission, content_hash, secure_hash

__version__ = "0.1.0"

__all__ = [
    "ChainFault",
    "ChoiceSample",
    "Clock",
    "Competition",
    "ConfigError",
    "Constraints",
    "Contender",
    "DataFault",
    "EvalTask",
    "Evaluation",
    "EvaluatorFault",
    "Fixed",
    "HubFault",
    "InstructionSample",
    "InverseExponential",
    "LinearDecay",
    "ModelFault",
    "ModelId",
    "Period",
    "ReferenceSample",
    "Reign",
    "Schedule",
    "Share",
    "Sn37Error",
    "Submission",
    "SubmissionFault",
    "TextSample",
    "Unnormalized",
    "__version__",
    "beats",
    "competition_weights",
    "content_hash",
    "fund",
    "generator",
    "moving_average",
    "picked_up",
    "reign",
    "secure_hash",
    "seed_of",
    "subnet_weights",
]
