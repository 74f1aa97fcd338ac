"""sn37: a Jupyter-first research toolkit for finetuning competitions on Bittensor (subnet 37).

The names here are the rules of the game: values and pure functions, without chain, hub or GPU.
Beside them stands what a researcher needs: `source`, `method`, `task`, `draw`, `evaluate`, `judge_task`,
`public`, `open_records`.
What does the work lies in the packages: `sn37.chain`, `sn37.hub`, `sn37.sources`, `sn37.methods`, `sn37.engine`,
`sn37.validator`, `sn37.miner`, `sn37.analysis`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sn37.clock import Clock, generator, picked_up, seed_of, training_seed
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

if TYPE_CHECKING:
    from sn37.competitions import public
    from sn37.data.published import open_records
    from sn37.evaluation.judging import judge_task
    from sn37.evaluation.local import Data, draw, evaluate, task
    from sn37.evaluation.tokens import render, token_losses
    from sn37.methods import method
    from sn37.sources import source

__version__ = "0.1.0"

_LAZY = {
    "Data": "sn37.evaluation.local",
    "draw": "sn37.evaluation.local",
    "evaluate": "sn37.evaluation.local",
    "judge_task": "sn37.evaluation.judging",
    "method": "sn37.methods",
    "open_records": "sn37.data.published",
    "public": "sn37.competitions",
    "render": "sn37.evaluation.tokens",
    "source": "sn37.sources",
    "task": "sn37.evaluation.local",
    "token_losses": "sn37.evaluation.tokens",
}
"""For researchers, imported when first used: they need more than the standard library."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'sn37' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "ChainFault",
    "ChoiceSample",
    "Clock",
    "Competition",
    "ConfigError",
    "Constraints",
    "Contender",
    "Data",
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
    "draw",
    "evaluate",
    "fund",
    "generator",
    "judge_task",
    "method",
    "moving_average",
    "open_records",
    "picked_up",
    "public",
    "reign",
    "render",
    "secure_hash",
    "seed_of",
    "source",
    "subnet_weights",
    "task",
    "token_losses",
    "training_seed",
]
