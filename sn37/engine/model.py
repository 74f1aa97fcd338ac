"""Load a causal language model from a folder that a stranger filled.

Reads exactly `config.json` and safetensors files, builds one of transformers' own classes by name and
fills it. Nothing else in the folder is opened, no code from it is imported, nothing is unpickled,
no generation setting is read, nothing is fetched. Of `config.json` only the fields of the architecture itself
are kept, so no field can choose a file, a kernel, a quantizer or an adapter.

Knows nothing of competitions or scores. Does not protect against weights that are too large for the
machine or a config that asks for absurd sizes within them: that is what `sn37.workers.isolation` is for.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sn37.errors import ConfigError, ModelFault

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["load", "modules", "read_config", "torch_dtype"]

_MODULES = {
    "BartForCausalLM": ("bart", "BartConfig"),
    "FalconForCausalLM": ("falcon", "FalconConfig"),
    "GPTNeoXForCausalLM": ("gpt_neox", "GPTNeoXConfig"),
    "Gemma2ForCausalLM": ("gemma2", "Gemma2Config"),
    "GemmaForCausalLM": ("gemma", "GemmaConfig"),
    "LlamaForCausalLM": ("llama", "LlamaConfig"),
    "MistralForCausalLM": ("mistral", "MistralConfig"),
    "Phi3ForCausalLM": ("phi3", "Phi3Config"),
    "PhiForCausalLM": ("phi", "PhiConfig"),
}
_LEGACY_FIELDS = frozenset(
    ("rope_scaling", "rope_theta", "partial_rotary_factor", "rotary_pct", "rotary_emb_base", "n_embed")
)
_MAX_CONFIG_BYTES = 1 << 20
_MAX_INDEX_BYTES = 16 << 20
_DTYPES = frozenset(("F64", "F32", "F16", "BF16"))


def torch_dtype(name: str) -> Any:
    """The torch dtype called `name`."""
    import torch

    dtypes = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if name not in dtypes:
        raise ConfigError(f"unknown dtype {name!r}; expected one of {', '.join(dtypes)}")
    return dtypes[name]


def modules(architectures: Iterable[str]) -> tuple[str, ...]:
    """The Python modules that hold the architectures, to import before they are needed."""
    return tuple(
        f"transformers.models.{_MODULES[name][0]}.modeling_{_MODULES[name][0]}" for name in sorted(set(architectures))
    )


def load(folder: Path, dtype: str, device: str, architectures: Iterable[str]) -> PreTrainedModel:
    """The model in `folder`, in evaluation mode, on `device`, its weights in `dtype`.

    Raises ModelFault, with the reason, for everything that is wrong with the folder itself.
    """
    config = read_config(folder, architectures)
    files = _weight_files(folder)
    name = (config.architectures or [""])[0]
    cls = getattr(importlib.import_module(modules([name])[0]), name)
    tensors, handles = _open(files)
    try:
        model: Any = _build(cls, config, tensors, torch_dtype(dtype))
    finally:
        for handle in handles:
            handle.__exit__(None, None, None)
    return model.to(device).eval().requires_grad_(False)  # type: ignore[no-any-return]


def read_config(folder: Path, architectures: Iterable[str]) -> PreTrainedConfig:
    """The config of the model in `folder`, of an allowed architecture, without fields foreign to it."""
    allowed = tuple(architectures)
    data = _json(folder / "config.json", _MAX_CONFIG_BYTES)
    named = data.get("architectures")
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        raise ModelFault(f"config.json names the architectures {named!r}; expected exactly one")
    if named[0] not in allowed or named[0] not in _MODULES:
        raise ModelFault(f"the architecture {named[0]!r} is not allowed; expected one of {', '.join(sorted(allowed))}")
    for key in ("auto_map", "quantization_config", "use_bidirectional_attention"):
        if data.get(key):
            raise ModelFault(f"config.json sets {key}, which is not allowed")
    module, config_class = _MODULES[named[0]]
    cls = getattr(importlib.import_module(f"transformers.models.{module}.configuration_{module}"), config_class)
    if data.get("model_type", cls.model_type) != cls.model_type:
        raise ModelFault(f"config.json has the model_type {data['model_type']!r}; {named[0]} is a {cls.model_type}")
    try:
        config = cls(**{key: value for key, value in data.items() if key in _fields(cls)})
    except Exception as error:
        raise ModelFault(f"config.json is no config of {named[0]}: {_first_line(error)}") from error
    config.architectures = [named[0]]
    return config  # type: ignore[no-any-return]


def _fields(cls: Any) -> frozenset[str]:
    """The fields of the architecture itself: not those all configs share, which choose how it is run."""
    from dataclasses import fields

    from transformers import PreTrainedConfig

    shared = {field.name for field in fields(PreTrainedConfig)}
    own = {field.name for field in fields(cls)} - shared
    return frozenset(own | set(cls.attribute_map) | _LEGACY_FIELDS)


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the model: the single one, or those its index names."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file() == index.is_file():
        raise ModelFault("expected either model.safetensors or model.safetensors.index.json, and not both")
    if single.is_file():
        return [single]
    places = _json(index, _MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(places, Mapping) or not places or not all(isinstance(name, str) for name in places.values()):
        raise ModelFault("model.safetensors.index.json has no weight_map from tensors to files")
    files = [folder / name for name in sorted(set(places.values()))]
    for file in files:
        if file.name not in places.values() or not file.match("model-*-of-*.safetensors") or not file.is_file():
            raise ModelFault(f"model.safetensors.index.json names the file {str(file.name)!r}, which is no part of it")
    return files


def _open(files: list[Path]) -> tuple[dict[str, Any], list[Any]]:
    """All tensors of `files`, not yet read, by name, and the open files."""
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Any] = {}
    handles = []
    for file in files:
        try:
            handle: Any = safe_open(str(file), framework="pt", device="cpu")
            handles.append(handle)
            for name in handle.keys():  # noqa: SIM118 - the handle is no mapping
                if name in tensors:
                    raise ModelFault(f"the tensor {name!r} is in more than one file")
                tensors[name] = handle.get_slice(name)
                # Older checkpoints carry masks and the like as integers; a model's own weights are floats.
                if tensors[name].get_dtype() not in _DTYPES and name.endswith(("weight", "bias_hh", "bias_ih")):
                    raise ModelFault(f"the tensor {name!r} is of type {tensors[name].get_dtype()}; expected a float")
        except SafetensorError as error:
            raise ModelFault(f"{file.name} is no safetensors file: {_first_line(error)}") from error
    return tensors, handles


def _build(cls: Any, config: PreTrainedConfig, tensors: dict[str, Any], dtype: Any) -> PreTrainedModel:
    import torch

    layers = getattr(config, "num_hidden_layers", 0)
    if not 0 < layers <= len(tensors):
        raise ModelFault(f"config.json asks for {layers} layers; the files hold {len(tensors)} tensors")
    try:
        model, info = cls.from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype, output_loading_info=True, local_files_only=True
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "allocate memory" in str(error):
            raise
        # transformers tells the names in its log only, and advises what is no option here.
        text = _first_line(error)
        reason = "tensors of other shapes than config.json says" if "ignore_mismatched_sizes" in text else text
        raise ModelFault(f"the weights do not load as {cls.__name__}: {reason}") from error
    for kind in ("missing_keys", "mismatched_keys"):
        names = sorted(str(key if isinstance(key, str) else key[0]) for key in info[kind])
        if names:
            raise ModelFault(f"{len(names)} {kind.split('_')[0]} tensors, the first is {names[0]!r}")
    return model  # type: ignore[no-any-return]


def _json(path: Path, max_bytes: int) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise ModelFault(f"{path.name} is missing") from None
    if len(raw) > max_bytes:
        raise ModelFault(f"{path.name} is larger than {max_bytes} bytes")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ModelFault(f"{path.name} is no JSON: {_first_line(error)}") from None
    if not isinstance(data, dict):
        raise ModelFault(f"{path.name} holds no JSON object")
    return data


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.splitlines())[:300]
