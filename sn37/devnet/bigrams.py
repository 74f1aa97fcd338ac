"""A head start for small models: embeddings that already know which token follows which.

The logarithms of a corpus' bigram frequencies, factorized by a truncated SVD into an input embedding
and an output head (Levy and Goldberg, "Neural Word Embedding as Implicit Matrix Factorization", 2014). The
model begins as a bigram model that its layers improve on, which spares the hundreds of steps in which
a model of random weights learns just that. Knows nothing of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["start_from_bigrams"]

_SMOOTHING = 100.0
_TYPICAL_ROW = 0.98
_OUTPUTS = ("o_proj", "down_proj")


def start_from_bigrams(model: PreTrainedModel, sequences: Iterable[Sequence[int]]) -> None:
    """Set the model's embedding and head so that it predicts the bigrams of `sequences`, in place.

    For Llama-like models with a head of their own: their layers start out adding nothing. Raises
    ValueError for a tied head.
    """
    import torch

    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if head.weight is embedding.weight:
        raise ValueError("the head is tied to the embedding; expected tie_word_embeddings=False")
    vocabulary, width = embedding.weight.shape
    rows, columns, scale = _factors(_counts(sequences, vocabulary), width)
    with torch.no_grad():
        embedding.weight.copy_(rows / scale)
        head.weight.copy_(columns * scale)
        for name, parameter in model.named_parameters():
            if any(part in _OUTPUTS for part in name.split(".")):
                parameter.zero_()


def _counts(sequences: Iterable[Sequence[int]], vocabulary: int) -> Tensor:
    """(V, V): how often column follows row."""
    import torch

    tokens = [torch.tensor(sequence) for sequence in sequences if len(sequence) > 1]
    cells = torch.cat([sequence[:-1] * vocabulary + sequence[1:] for sequence in tokens])
    return torch.bincount(cells, minlength=vocabulary**2).view(vocabulary, vocabulary).double()


def _factors(counts: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embedding (V, H), head (V, H) and the embedding's root mean square, which the final norm divides by.

    One of the H dimensions makes all rows equally long, so that a normalization scales them alike, and
    carries the unigram frequencies.
    """
    import torch

    totals = counts.sum(1, keepdim=True)
    unigram = counts.sum(0) + 0.1
    unigram /= unigram.sum()
    smooth = (counts + _SMOOTHING * unigram) / (totals + _SMOOTHING)
    surprise = smooth.log() - unigram.log()
    surprise -= (surprise * unigram).sum(1, keepdim=True)
    # Frequent tokens count for more: the error of a rare pair costs little.
    row_weight = ((totals + 1) / (totals + 1).sum()).sqrt()
    column_weight = unigram.sqrt() + 0.01
    left, values, right = torch.linalg.svd(surprise * row_weight * column_weight, full_matrices=False)
    # The signs of singular vectors are arbitrary: fixed by the largest entry of each.
    signs = left.gather(0, left.abs().argmax(0, keepdim=True)).sign().squeeze(0)
    rank = min(width - 1, len(values))
    strength = values[:rank].sqrt() * signs[:rank]
    rows = left[:, :rank] * strength / row_weight
    columns = right[:rank].T * strength / column_weight[:, None]
    length = rows.norm(dim=1, keepdim=True)
    longest = length.quantile(_TYPICAL_ROW)
    rows = rows * (longest / length).clamp(max=1)
    rest = (longest**2 - rows.norm(dim=1, keepdim=True) ** 2).clamp(min=0).sqrt() + longest / 2
    bias = (unigram.log() - unigram.log().mean())[:, None] / (rest * row_weight**2).sum()
    # A model wider than its vocabulary keeps the dimensions it has no use for yet at 0.
    spare = torch.zeros(len(rows), width - 1 - rank, dtype=rows.dtype)
    rows, columns = torch.cat([rows, spare, rest], 1), torch.cat([columns, spare, bias], 1)
    scale = rows.pow(2).mean(1).sqrt().mean()
    return rows, columns, scale
