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
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from sn37.engine.architectures import ARCHITECTURES
from sn37.engine.files import read_json, weight_files
from sn37.engine.memory import is_out_of_memory
from sn37.errors import ConfigError, ModelFault

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["load", "read_config", "torch_dtype"]

_FORBIDDEN = ("auto_map", "quantization_config", "use_bidirectional_attention")
_MAX_CONFIG_BYTES = 1 << 20
_DTYPES = frozenset(("F64", "F32", "F16", "BF16"))


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype called `name`."""
    import torch

    dtypes = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if name not in dtypes:
        raise ConfigError(f"unknown dtype {name!r}; expected one of {', '.join(dtypes)}")
    return dtypes[name]


def load(folder: Path, dtype: str, device: str, architectures: Iterable[str]) -> PreTrainedModel:
    """The model in `folder`, in evaluation mode, on `device`, its weights in `dtype`.

    No token's logits depend on later tokens, whatever the weights. Raises ModelFault, with the reason, for everything
    that is wrong with the folder itself.
    """
    from sn37.engine.masks import mask_with_infinity

    config = read_config(folder, architectures)
    files = weight_files(folder)
    name = (config.architectures or [""])[0]
    architecture = ARCHITECTURES[name]
    cls = cast("type[PreTrainedModel]", getattr(importlib.import_module(architecture.module), name))
    with ExitStack() as opened:
        model = _build(cls, config, architecture.layers(config), _open(files, opened), torch_dtype(dtype))
    model.to(device).eval().requires_grad_(False)  # type: ignore[arg-type]
    mask_with_infinity(model)
    _check_runs(model)
    return model


def read_config(folder: Path, architectures: Iterable[str]) -> PreTrainedConfig:
    """The config of the model in `folder`, of an allowed architecture, without fields foreign to it."""
    allowed = tuple(architectures)
    data = read_json(folder / "config.json", _MAX_CONFIG_BYTES)
    if not isinstance(data, dict):
        raise ModelFault("config.json holds no JSON object")
    named = data.get("architectures")
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        raise ModelFault(f"config.json names the architectures {named!r}; expected exactly one")
    name = named[0]
    if name not in allowed or name not in ARCHITECTURES:
        raise ModelFault(f"the architecture {name!r} is not allowed; expected one of {', '.join(sorted(allowed))}")
    for key in _FORBIDDEN:
        if data.get(key):
            raise ModelFault(f"config.json sets {key}, which is not allowed")
    architecture = ARCHITECTURES[name]
    if data.get("model_type", architecture.family) != architecture.family:
        raise ModelFault(f"config.json has the model_type {data['model_type']!r}; {name} is a {architecture.family}")
    # Before a config is made of them: its class makes lists as long as a field says.
    fields = architecture.own_fields(data)
    try:
        config = architecture.config_type()(**fields)  # type: ignore[arg-type]
    except Exception as error:
        raise ModelFault(f"config.json is no config of {name}: {_first_line(error)}") from error
    architecture.check(config)
    config.architectures = [name]
    return config


class _Tensor(Protocol):
    """A tensor in a file, not yet read."""

    def get_dtype(self) -> str: ...


class _TensorFile(Protocol):
    """An open safetensors file."""

    def keys(self) -> list[str]: ...

    def get_slice(self, name: str) -> _Tensor: ...


def _open(files: list[Path], opened: ExitStack) -> dict[str, _Tensor]:
    """All tensors of `files` by name, as long as the files are `opened`."""
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, _Tensor] = {}
    for file in files:
        try:
            handle = cast("_TensorFile", opened.enter_context(safe_open(str(file), framework="pt", device="cpu")))
            for name in handle.keys():  # noqa: SIM118 - the handle is no mapping
                if name in tensors:
                    raise ModelFault(f"the tensor {name!r} is in more than one file")
                tensors[name] = tensor = handle.get_slice(name)
                # Older checkpoints carry masks and the like as integers; a model's own weights are floats.
                if tensor.get_dtype() not in _DTYPES and name.endswith(("weight", "bias_hh", "bias_ih")):
                    raise ModelFault(f"the tensor {name!r} is of type {tensor.get_dtype()}; expected a float")
        except SafetensorError as error:
            raise ModelFault(f"{file.name} is no safetensors file: {_first_line(error)}") from error
    return tensors


def _build(
    cls: type[PreTrainedModel], config: PreTrainedConfig, layers: int, tensors: dict[str, _Tensor], dtype: torch.dtype
) -> PreTrainedModel:
    if not 0 < layers <= len(tensors):
        raise ModelFault(f"config.json asks for {layers} layers; the files hold {len(tensors)} tensors")
    try:
        loaded = cls.from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype, output_loading_info=True, local_files_only=True
        )
        model, info = cast("tuple[PreTrainedModel, dict[str, list[str | tuple[str, ...]]]]", loaded)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # transformers tells the names in its log only, and advises what is no option here.
        text = _first_line(error)
        reason = "tensors of other shapes than config.json says" if "ignore_mismatched_sizes" in text else text
        raise ModelFault(f"the weights do not load as {cls.__name__}: {reason}") from error
    for kind in ("missing_keys", "mismatched_keys"):
        names = sorted(str(key if isinstance(key, str) else key[0]) for key in info[kind])
        if names:
            raise ModelFault(f"{len(names)} {kind.split('_')[0]} tensors, the first is {names[0]!r}")
    return model


def _check_runs(model: PreTrainedModel) -> None:
    """One forward pass over three tokens, for fields that are allowed each but do not go together."""
    import torch

    try:
        with torch.inference_mode():
            model(input_ids=torch.zeros((1, 3), dtype=torch.long, device=model.device), use_cache=False)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelFault(f"the model loads but does not run: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.splitlines())[:300]
