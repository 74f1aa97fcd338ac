"""The architectures a competition may allow: what differs between them, said once, in a table.

Which transformers classes they are, which fields their configurations have and what those may hold, which attention a
layer has, and how it learns where a token stands. Losses, generation and the checks of a submission all ask here.

Knows nothing of weights or batches.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from sn37.engine.config_fields import (
    ROPE_FIELDS,
    Allowed,
    check_fields,
    choice,
    flag,
    list_of,
    number,
    optional,
    positive,
    record,
    whole,
)
from sn37.errors import ModelFault

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["ARCHITECTURES", "Architecture", "architecture_of", "modules"]

_LAYERS = whole(1, 1 << 12)
_SIZE = whole(1, 1 << 20)
_POSITIONS = whole(1, (1 << 31) - 1)
_WINDOW = optional(_POSITIONS)
_SHARE = optional(number(0, 1))
_EPSILON = number(0, 1)
_SCALE = number(0, 1e3)
_SOFTCAP = optional(positive(1e6))
_TOKEN = whole(-1, 1 << 24)
_TOKENS = Allowed(
    f"{_TOKEN.expected}, a list of such, or null",
    lambda value: optional(_TOKEN).holds(value) or list_of(_TOKEN).holds(value),
)
_ACTIVATION = choice(
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh"),
    *("gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2"),
    *("relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh"),
)
"""Those that work on each number by itself and have no parameters."""

_EVERY: Mapping[str, Allowed] = {
    "vocab_size": whole(1, 1 << 24),
    "max_position_embeddings": _POSITIONS,
    "attention_dropout": _SHARE,
    "use_cache": flag(),
    "tie_word_embeddings": flag(),
    "bos_token_id": optional(_TOKEN),
    "eos_token_id": _TOKENS,
    "pad_token_id": optional(_TOKEN),
}
_ROTARY: Mapping[str, Allowed] = {
    **_EVERY,
    "hidden_size": _SIZE,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _SIZE,
    "initializer_range": _SCALE,
    "rope_parameters": record(),
}
_GATED: Mapping[str, Allowed] = {
    **_ROTARY,
    "intermediate_size": _SIZE,
    "num_key_value_heads": optional(_SIZE),
    "hidden_act": _ACTIVATION,
    "rms_norm_eps": _EPSILON,
}
_GEMMA: Mapping[str, Allowed] = {
    **_GATED,
    "head_dim": _SIZE,
    "attention_bias": flag(),
    "use_bidirectional_attention": Allowed("false, or null", lambda value: value is None or value is False),
}
_DROPOUT: Mapping[str, Allowed] = {"resid_pdrop": _SHARE, "embd_pdrop": _SHARE}


@dataclass(frozen=True)
class Architecture:
    """One architecture, and what an engine or a check has to know of it."""

    family: str
    """Its `model_type`, and the folder of transformers that has its code."""
    config_class: str
    """The class of its configuration."""
    fields: Mapping[str, Allowed] = field(repr=False)
    """Every field of its own in the configuration, and what it may hold; no other field is read."""
    layers_field: str = "num_hidden_layers"
    """The field that counts the layers of the decoder."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names of fields, by what they are called in `fields`."""
    windowed: Literal["none", "every layer", "some layers"] = "none"
    """Which layers attend to the `sliding_window` last tokens only, where the configuration names one."""
    attention: str = "self_attn"
    """What a layer calls its self-attention."""
    position_table: str = ""
    """Where in the body the table of learned positions is, which the model counts itself; else they are rotary."""

    @property
    def module(self) -> str:
        """The Python module that has its code."""
        return f"transformers.models.{self.family}.modeling_{self.family}"

    def config_type(self) -> type[PreTrainedConfig]:
        """The class of its configuration; imports transformers."""
        module = importlib.import_module(f"transformers.models.{self.family}.configuration_{self.family}")
        return cast("type[PreTrainedConfig]", getattr(module, self.config_class))

    def own_fields(self, data: Mapping[str, object]) -> dict[str, object]:
        """Of a configuration's data what belongs to the architecture. Raises ModelFault for values outside a range."""
        known = {name: value for name, value in data.items() if name in (*self.fields, *self.aliases)}
        for name, value in known.items():
            check_fields(self.fields, {self.aliases.get(name, name): value})
        legacy = {name: data[name] for name in _LEGACY_ROPE if name in data and "rope_parameters" in self.fields}
        return known | legacy

    def check(self, config: PreTrainedConfig) -> None:
        """Raises ModelFault where a field of a finished configuration holds what it may not."""
        check_fields(self.fields, {name: getattr(config, name) for name in self.fields})
        if "rope_parameters" in self.fields:
            check_fields(ROPE_FIELDS, config.rope_parameters, "rope_parameters.")
        layers, types = self.layers(config), getattr(config, "layer_types", None)
        if types is not None and len(types) != layers:
            raise ModelFault(
                f"config.json: layer_types has {len(types)} entries; expected {layers}, one for each layer"
            )

    def layers(self, config: PreTrainedConfig) -> int:
        """How many layers the decoder has."""
        return int(getattr(config, self.layers_field))

    def sliding_window(self, config: PreTrainedConfig) -> int | None:
        """How many tokens a windowed layer sees, its own included; None where no layer is windowed."""
        return None if self.windowed == "none" else getattr(config, "sliding_window", None)

    def logit_cap(self, config: PreTrainedConfig) -> float | None:
        """The final logits are `cap * tanh(logits / cap)`; None where they are as they are."""
        return getattr(config, "final_logit_softcapping", None)

    def uses_alibi(self, config: PreTrainedConfig) -> bool:
        """Whether attention is biased by distance, which the model works out from a mask of two dimensions."""
        return bool(getattr(config, "alibi", False))


_LEGACY_ROPE = ("rope_scaling", "rope_theta", "partial_rotary_factor", "rotary_pct", "rotary_emb_base")
"""Older names of what is in `rope_parameters` now; checked there."""

ARCHITECTURES: Mapping[str, Architecture] = {
    "BartForCausalLM": Architecture(
        "bart",
        "BartConfig",
        {
            **_EVERY,
            **dict.fromkeys(("encoder_layers", "decoder_layers"), _LAYERS),
            **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "d_model"), _SIZE),
            **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), _SIZE),
            **dict.fromkeys(("encoder_layerdrop", "decoder_layerdrop"), _SHARE),
            **dict.fromkeys(("dropout", "activation_dropout", "classifier_dropout"), _SHARE),
            "activation_function": _ACTIVATION,
            "init_std": _SCALE,
            **dict.fromkeys(("scale_embedding", "is_decoder"), flag()),
            "decoder_start_token_id": optional(_TOKEN),
            "forced_eos_token_id": _TOKENS,
        },
        layers_field="decoder_layers",
        aliases={
            "num_attention_heads": "encoder_attention_heads",
            "hidden_size": "d_model",
            "num_hidden_layers": "encoder_layers",
        },
        position_table="decoder.embed_positions",
    ),
    "FalconForCausalLM": Architecture(
        "falcon",
        "FalconConfig",
        {
            **_ROTARY,
            "num_ln_in_parallel_attn": optional(whole(1, 2)),
            "layer_norm_epsilon": _EPSILON,
            "hidden_dropout": _SHARE,
            "num_kv_heads": optional(_SIZE),
            **dict.fromkeys(("alibi", "new_decoder_architecture", "multi_query", "parallel_attn", "bias"), flag()),
            "ffn_hidden_size": optional(_SIZE),
            "activation": _ACTIVATION,
        },
        aliases={"n_embed": "hidden_size"},
        attention="self_attention",
    ),
    "GPTNeoXForCausalLM": Architecture(
        "gpt_neox",
        "GPTNeoXConfig",
        {
            **_ROTARY,
            "intermediate_size": _SIZE,
            "hidden_act": _ACTIVATION,
            **dict.fromkeys(("hidden_dropout", "classifier_dropout"), _SHARE),
            "layer_norm_eps": _EPSILON,
            **dict.fromkeys(("use_parallel_residual", "attention_bias", "is_decoder"), flag()),
        },
        attention="attention",
    ),
    "Gemma2ForCausalLM": Architecture(
        "gemma2",
        "Gemma2Config",
        {
            **{name: allowed for name, allowed in _GEMMA.items() if name != "hidden_act"},
            "hidden_activation": _ACTIVATION,
            "query_pre_attn_scalar": _SIZE,
            "sliding_window": _WINDOW,
            "layer_types": optional(list_of(choice("full_attention", "sliding_attention"))),
            "final_logit_softcapping": _SOFTCAP,
            "attn_logit_softcapping": _SOFTCAP,
        },
        windowed="some layers",
    ),
    "GemmaForCausalLM": Architecture("gemma", "GemmaConfig", _GEMMA),
    "LlamaForCausalLM": Architecture(
        "llama",
        "LlamaConfig",
        {
            **_GATED,
            "pretraining_tp": optional(_SIZE),
            **dict.fromkeys(("attention_bias", "mlp_bias"), flag()),
            "head_dim": optional(_SIZE),
        },
    ),
    "MistralForCausalLM": Architecture(
        "mistral",
        "MistralConfig",
        {**_GATED, "head_dim": optional(_SIZE), "sliding_window": _WINDOW},
        windowed="every layer",
    ),
    "Phi3ForCausalLM": Architecture(
        "phi3",
        "Phi3Config",
        {**_GATED, **_DROPOUT, "original_max_position_embeddings": _POSITIONS, "sliding_window": _WINDOW},
        windowed="every layer",
    ),
    "PhiForCausalLM": Architecture(
        "phi",
        "PhiConfig",
        {
            **{name: allowed for name, allowed in _GATED.items() if name != "rms_norm_eps"},
            **_DROPOUT,
            "layer_norm_eps": _EPSILON,
            "qk_layernorm": flag(),
        },
    ),
}
"""By the name of transformers' class."""


def architecture_of(model: PreTrainedModel) -> Architecture:
    """The architecture of a loaded model. Raises ValueError where it is none of those here."""
    family = str(model.config.model_type)
    for architecture in ARCHITECTURES.values():
        if architecture.family == family:
            return architecture
    known = ", ".join(architecture.family for architecture in ARCHITECTURES.values())
    raise ValueError(f"the engine knows no {family!r} models; expected one of {known}")


def modules(names: Iterable[str]) -> tuple[str, ...]:
    """The Python modules that have the code of the architectures, to import before they are needed."""
    return tuple(ARCHITECTURES[name].module for name in sorted(set(names)))
