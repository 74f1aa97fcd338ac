"""Tiny models that know what they are made to know: which letter belongs to a key, whatever else a prompt says.

Attention looks at all bytes of a prompt alike, so only which of them are there counts: no wording and no order changes
an answer. What a model does not know it guesses, always alike.
"""

from __future__ import annotations

import random
from pathlib import Path

from sn37.checks.tokenizer import byte_tokenizer

KEYS = "ABCDEFGHIJKLMNOQRSTUVWXZ0123456789#$%&*+=@<>{}[]^_~|"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PARTNER = dict(zip(KEYS, random.Random(3).sample(2 * LETTERS, len(KEYS)), strict=True))
"""The letter that belongs to each key; each letter belongs to two."""


def known_to(share: float) -> str:
    """The keys a model knows that knows this share of them: a better model knows them as well."""
    return KEYS[: round(share * len(KEYS))]


def save_knowing(folder: Path, share: float) -> Path:
    """A model that knows this share of the keys, with a byte tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer()
    byte = {text: tokenizer.encode(text, add_special_tokens=False)[0] for text in KEYS + LETTERS}
    size = 264
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=size,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=512,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(round(1_000 * share))
        model = LlamaForCausalLM(config)
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.zero_()
        # The mean of all bytes so far: no query and no key, each byte a direction of its own.
        model.model.embed_tokens.weight.copy_(torch.eye(257, size))
        attention = model.model.layers[0].self_attn
        attention.v_proj.weight.copy_(torch.eye(size))
        attention.o_proj.weight.copy_(3.0 * torch.eye(size))
        rows = [byte[letter] for letter in LETTERS]
        for key in KEYS:
            model.lm_head.weight[rows, byte[key]] = torch.randn(len(LETTERS))
        for key in known_to(share):
            model.lm_head.weight[byte[PARTNER[key]], byte[key]] = 8.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
