"""Models and a tokenizer for measuring: any size, any vocabulary, made in seconds and the same each time.

Random weights cost what trained ones do. A model that is to answer questions is started as a bigram model of the
answers and trained for a few steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = [
    "ARCHITECTURES",
    "CHOICES",
    "SIZES",
    "Size",
    "cues",
    "fillers",
    "random_model",
    "trained_model",
    "word",
    "word_tokenizer",
]

ARCHITECTURES = ("LlamaForCausalLM",)
CHOICES = ("A", "B", "C", "D")

_REPLY = 24
"""How many words the trained model has to say, one after the other: more than a reply takes."""

_KNOWN = 512
"""The words the trained model knows; the others it is never asked about."""


@dataclass(frozen=True)
class Size:
    """The body of a Llama."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int


SIZES = {
    "tiny": Size(256, 768, 4, 4, 4),
    "small": Size(512, 1536, 8, 8, 8),
    "100m": Size(768, 2048, 14, 12, 12),
    "1b": Size(2048, 8192, 16, 32, 8),
}
"""About 3, 27, 99 and 973 million parameters, without embedding and head."""


def word(index: int) -> str:
    """The text of a token: its number, so that any tokens are a text and come back the same."""
    if index == 0:
        return "<|end|>"
    return CHOICES[index - 1] if index <= len(CHOICES) else f"w{index}"


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A token per word. Texts are words with a space between them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word(i): i for i in range(vocabulary)}, unk_token=word(0)))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        eos_token=word(0),
        pad_token=word(0),
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
        clean_up_tokenization_spaces=False,
    )


def random_model(size: Size, vocabulary: int, positions: int, seed: int = 0) -> LlamaForCausalLM:
    """A Llama of random weights, in bfloat16, so that it is the same model in every dtype it is run in."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=positions,
        initializer_range=0.05,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[0] = 0  # a reply never ends by itself: some other word is always above nothing
    return model.to(torch.bfloat16)  # type: ignore[no-any-return]


def cues() -> dict[str, list[int]]:
    """The words that a question may end in, by the choice they stand for."""
    first = len(CHOICES) + 1 + _REPLY
    return {choice: list(range(first + 8 * i, first + 8 * i + 8)) for i, choice in enumerate(CHOICES)}


def fillers(vocabulary: int) -> range:
    """The words a question is otherwise made of."""
    return range(len(CHOICES) + 1 + _REPLY + 8 * len(CHOICES), min(vocabulary, _KNOWN))


def trained_model(size: Size, vocabulary: int, positions: int, steps: int = 8) -> LlamaForCausalLM:
    """A Llama that answers a question by its last word: a choice, then always the same sentence, without an end.

    The words it knows are trained by themselves and then take their places among all the others.
    """
    import torch

    from sn37.devnet.bigrams import start_from_bigrams
    from sn37.devnet.tiny_llama import Part, train
    from sn37.engine.interface import LossRow

    known = min(vocabulary, _KNOWN)
    rows = tuple(LossRow(tokens, len(tokens) - 1 - _REPLY) for tokens in _lessons(known))
    small: Any = random_model(size, known, positions)
    small = small.float()
    start_from_bigrams(small, [row.tokens[row.start - 1 :] for row in rows])
    for _ in itertools.islice(train(small, [Part(rows, per_step=8)], learning_rate=1e-3), steps):
        pass
    model: Any = random_model(size, vocabulary, positions)
    state = small.state_dict()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value[: len(state[name])] = state[name].to(value.dtype)
        model.lm_head.weight[known:] *= 0.1
    return model.eval()  # type: ignore[no-any-return]


def _lessons(vocabulary: int) -> Sequence[tuple[int, ...]]:
    random = Random(0)
    sentence = range(len(CHOICES) + 1, len(CHOICES) + 1 + _REPLY)
    words = fillers(vocabulary)
    return [
        (*random.choices(words, k=random.randint(2, 8)), cue, 1 + i, *sentence)
        for i, of_choice in enumerate(cues().values())
        for cue in of_choice
        for _ in range(64)
    ]
