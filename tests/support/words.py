"""A tokenizer of ten words, with a chat template."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["ASSISTANT", "CAT", "END", "MAT", "ON", "SAT", "THE", "USER", "tokenizer"]

WORDS = ("<pad>", "<end>", "<unk>", "user", "assistant", "the", "cat", "sat", "on", "mat")
END, _, USER, ASSISTANT, THE, CAT, SAT, ON, MAT = range(1, 10)
"""The tokens of words."""


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}assistant"
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<end>", unk_token="<unk>", chat_template=template
    )
