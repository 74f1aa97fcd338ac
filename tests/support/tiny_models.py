"""Tiny models of every architecture, with weights large enough that every part of them shows in the logits."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

VOCABULARY = 211
POSITIONS = 160

_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "mistral": ("Mistral", {"num_key_value_heads": 2, "sliding_window": 7}),
    "gpt_neox": ("GPTNeoX", {}),
    "phi": ("Phi", {}),
    "phi3": ("Phi3", {"num_key_value_heads": 2}),
    "gemma": ("Gemma", {"num_key_value_heads": 1, "head_dim": 8}),
    "gemma2": ("Gemma2", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 7}),
    "falcon": ("Falcon", {"intermediate_size": None}),
    "falcon_alibi": ("Falcon", {"intermediate_size": None, "alibi": True}),
    "bart": (
        "Bart",
        {
            "hidden_size": None,
            "intermediate_size": None,
            "initializer_range": None,
            "num_hidden_layers": None,
            "num_attention_heads": None,
            "d_model": 32,
            "decoder_layers": 2,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 48,
            "init_std": 0.2,
            "is_decoder": True,
            "is_encoder_decoder": False,
        },
    ),
}


def build(name: str, seed: int = 0, **changes: Any) -> Any:
    """A random model of the kind `name`, in float32; fields set to None are left at their defaults."""
    import torch
    import transformers

    family, own = MODELS[name]
    fields = {key: value for key, value in {**_COMMON, **own, **changes}.items() if value is not None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**fields))
        # Biases and norms start at 0 and 1, where many a mistake would not show.
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def build_model() -> Callable[..., Any]:
    return build


@pytest.fixture(scope="session")
def model_of() -> Callable[[str], Any]:
    """The model of a kind, made once."""
    return functools.cache(build)


@pytest.fixture(params=sorted(MODELS))
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of model in turn: every architecture, Falcon with both its positions."""
    return str(request.param)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Saves a model, or a new one of a kind, and says where."""

    def save(model: Any, **changes: Any) -> Path:
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        (build(model, **changes) if isinstance(model, str) else model).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def functions() -> Iterator[str]:
    """The module `worker_functions`, importable in workers started from now on."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(Path(__file__).parents[1] / "workers" / "programs"), before))
    )
    yield "worker_functions"
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
