"""Checks on a submission that need its weights. Protocol, section 7, from the architecture on.

The order is the protocol's; the first check that fails raises ModelFault with the reason kept with the
submission. The checks that need no weights (bytes, file names, hash) are `sn37.hub`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sn37.competition import Constraints
from sn37.engine.architectures import ARCHITECTURES
from sn37.engine.model import load, read_config
from sn37.errors import ModelFault

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BUFFER = re.compile(r"(^|\.)(inv_freq|masked_bias|attention\.bias|attn\.bias|position_ids|final_logits_bias)$")
"""What older checkpoints keep beside the parameters, and every model makes for itself."""
_NORM_CHUNK = 1 << 22
"""How many weights are made float64 at once: 32 MiB."""

__all__ = [
    "MODEL_CHECKS",
    "check_norms",
    "check_parameters",
    "check_position_table",
    "check_positions",
    "check_values",
    "check_vocabulary",
    "count_parameters",
    "inspect",
    "linear_norms",
    "unexpected_tensors",
]


def inspect(folder: Path, constraints: Constraints, device: str = "cpu", dtype: str | None = None) -> PreTrainedModel:
    """The model in `folder`, loaded and checked: architecture, parameter count, finite weights, norms.

    dtype: the competition's own where None. The tokenizer's rules follow once it is loaded: `check_vocabulary`.
    """
    check_position_table(folder, constraints)
    model = load(folder, dtype or constraints.dtype, device, constraints.architectures)
    for check in MODEL_CHECKS:
        check(model, constraints)
    return model


def check_position_table(folder: Path, constraints: Constraints) -> None:
    """Where positions are learned there is no way past the last one."""
    config = read_config(folder, constraints.architectures)
    learned = any(ARCHITECTURES[name].position_table for name in config.architectures or ())
    if learned and config.max_position_embeddings < constraints.sequence_length:
        raise ModelFault(
            f"the model has {config.max_position_embeddings} positions; "
            f"the competition's sequences have {constraints.sequence_length} tokens"
        )


def unexpected_tensors(model: PreTrainedModel, names: Iterable[str]) -> tuple[str, ...]:
    """The tensors of those names that the model does not use, known buffers aside, sorted.

    As transformers reads them, with or without the prefix of the model that carries the head.
    """
    prefix = f"{model.base_model_prefix}."
    used = set(model.state_dict())
    used |= {f"{prefix}{name}" for name in used} | {name.removeprefix(prefix) for name in used}
    used.add("embed_out.weight")  # what files of GPT-NeoX call the head
    return tuple(sorted(name for name in names if name not in used and not _BUFFER.search(name)))


def check_positions(model: PreTrainedModel, constraints: Constraints) -> None:
    """No token's loss may depend on how many tokens follow: rotary angles are the same at all lengths of a sequence."""
    from sn37.engine.rope import rope_length_limit

    limit = rope_length_limit(model)
    if limit is not None and limit < constraints.sequence_length:
        raise ModelFault(
            f"config.json: rope_parameters turns all positions of a text of more than {limit} tokens; "
            f"the competition's sequences have {constraints.sequence_length}, expected no change up to there"
        )


def count_parameters(folder: Path, architectures: Iterable[str], tensors: int) -> int:
    """The parameters of the model that config.json describes, tied ones counted once; no weight is read.

    tensors: how many the files hold; a model of more layers than that cannot be filled from them.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = read_config(folder, architectures)
    layers = ARCHITECTURES[(config.architectures or [""])[0]].layers(config)
    if not 0 < layers <= tensors:
        raise ModelFault(f"config.json asks for {layers} layers; the files hold {tensors} tensors")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return sum(parameter.numel() for parameter in model.parameters())


def check_parameters(model: PreTrainedModel, constraints: Constraints) -> None:
    """The number of parameters of the loaded model: a tied head counts once, saved or not; buffers do not count."""
    count = sum(parameter.numel() for parameter in model.parameters())
    if not constraints.min_parameters <= count <= constraints.max_parameters:
        raise ModelFault(
            f"{count:,} parameters; expected {constraints.min_parameters:,} to {constraints.max_parameters:,}"
        )


def check_values(model: PreTrainedModel, constraints: Constraints) -> None:
    """No weight and no buffer may be infinite or not a number."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        # One pass without a copy; both ends are NaN as soon as one value is.
        low, high = (float(end) for end in tensor.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ModelFault(f"the weights {name!r} are not all finite")


def linear_norms(model: PreTrainedModel) -> Iterator[tuple[str, float]]:
    """(name, Frobenius norm) of every linear layer of attention and MLP; not of the embeddings or the head.

    A fused layer (query, key and value in one) is one layer.
    """
    import torch

    from sn37.engine.head import output_layer

    head = output_layer(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            yield name, _norm(module.weight)


def _norm(weight: torch.Tensor) -> float:
    """The Frobenius norm, exact to 1e-6 relative whatever the size.

    A sum in float32 stops growing where its next term is below its last digit. In float64 it does not, and a chunk at
    a time needs no second copy of the layer.
    """
    import torch

    squares = [chunk.double().square().sum() for chunk in torch.split(weight.detach().flatten(), _NORM_CHUNK)]
    return math.sqrt(float(sum(squares)))


def check_norms(model: PreTrainedModel, constraints: Constraints) -> None:
    """None above `norm_hard`, at most the share `norm_soft_share` above `norm_soft`."""
    norms = dict(linear_norms(model))
    for name, norm in norms.items():
        if not norm <= constraints.norm_hard:
            raise ModelFault(f"the layer {name!r} has the norm {norm:.1f}; expected at most {constraints.norm_hard:g}")
    above = sum(norm > constraints.norm_soft for norm in norms.values())
    if above > constraints.norm_soft_share * len(norms):
        raise ModelFault(
            f"{above} of {len(norms)} layers have a norm above {constraints.norm_soft:g}; "
            f"expected at most {constraints.norm_soft_share:.0%}"
        )


MODEL_CHECKS = (check_positions, check_parameters, check_values, check_norms)
"""What is checked of a loaded model, in the protocol's order; each raises ModelFault."""


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Every token of the tokenizer has its row in the embeddings and in the head."""
    from sn37.engine.head import output_layer

    embeddings = cast("torch.nn.Embedding", model.get_input_embeddings())
    rows = min(len(embeddings.weight), len(output_layer(model).weight))
    needed = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if needed > rows:
        raise ModelFault(f"the tokenizer has {needed:,} tokens; the model knows {rows:,}")
