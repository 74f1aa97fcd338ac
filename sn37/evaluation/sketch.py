"""A sketch of a model's weights: what a record keeps so that copies are known by it.

The weights it holds lie at places that a tensor's name and shape alone decide, so equal tensors are sampled alike, in
any process and on any device. It is taken of the loaded model: how its files are sharded, in which dtype they are
stored, and whether a tied head is saved as well, makes no difference. It costs one pass over the weights.

It does not see through a copy whose neurons were permuted or rescaled, and proves nothing: it informs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from sn37.records.results import Sketch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = ["sketch_of"]

_MAX_TENSORS = 64
_WEIGHTS = 256
"""How many weights are sampled of all tensors together: four or more of each."""
_KEY_DIGITS = 16
_CHUNK = 1 << 22
"""How many weights are copied at once to be hashed."""


def sketch_of(model: PreTrainedModel) -> Sketch:
    """The sketch of a loaded model whose weights are known to be finite; tied parameters count once."""
    parameters = dict(model.named_parameters())
    named = {f"{name} {tuple(parameter.shape)}": parameter for name, parameter in parameters.items()}
    # Matrices only: norms are near 1 and biases near 0 in every model. Of many those with the smallest hashes, so that
    # models of one architecture have nearly all of theirs in common, whatever else one of them has.
    matrices = {_hash(name).hex()[:_KEY_DIGITS]: name for name, tensor in named.items() if _is_matrix(tensor)}
    chosen = sorted(matrices)[:_MAX_TENSORS]
    count = _WEIGHTS // max(len(chosen), 1)
    return Sketch(_digest(named), {key: _sampled(named[matrices[key]], matrices[key], count) for key in chosen})


def _is_matrix(parameter: torch.Tensor) -> bool:
    return parameter.dim() > 1 and parameter.numel() > 0


def _sampled(parameter: torch.Tensor, name: str, count: int) -> tuple[float, ...]:
    """So many weights of a tensor, at places that follow from its name and shape."""
    flat = parameter.detach().flatten()
    places = [int.from_bytes(_hash(f"{name} {each}")) % len(flat) for each in range(count)]
    found: list[float] = flat[places].double().tolist()
    return tuple(found)


def _digest(named: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the SHA-256 of each parameter, in the order of their names and shapes."""
    import torch

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # hashlib lets go of the interpreter's lock
        hashes = dict(zip(named, pool.map(_hash_weights, named.values()), strict=True))
    return _hash("\n".join(f"{name} {hashes[name]}" for name in sorted(hashes))).hex()


def _hash_weights(parameter: torch.Tensor) -> str:
    import torch

    found = hashlib.sha256()
    for chunk in torch.split(parameter.detach().flatten(), _CHUNK):
        found.update(chunk.view(torch.uint8).cpu().numpy().data)
    return found.hexdigest()


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
