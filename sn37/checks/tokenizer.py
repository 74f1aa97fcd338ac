"""Load a tokenizer from a folder that a stranger filled: `tokenizer.json` and its settings, never code.

Chat templates are text that transformers runs in a sandbox; a template that never ends is stopped by the
worker's time limit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sn37.errors import ModelFault

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerBase

__all__ = ["byte_tokenizer", "load_tokenizer"]

_MAX_TOKENIZER_BYTES = 64 << 20
_MAX_SETTINGS_BYTES = 4 << 20
_SETTINGS = frozenset(
    (
        "add_bos_token",
        "add_eos_token",
        "additional_special_tokens",
        "bos_token",
        "chat_template",
        "clean_up_tokenization_spaces",
        "cls_token",
        "eos_token",
        "extra_special_tokens",
        "mask_token",
        "model_max_length",
        "pad_token",
        "sep_token",
        "unk_token",
    )
)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, with its chat template. Raises ModelFault with the reason.

    Only the fast tokenizer in `tokenizer.json` counts; of the other files the added tokens with their ids, the special
    tokens and the template. A special token that none of them gives an id is never invented.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelFault("tokenizer.json is missing")
    if file.stat().st_size > _MAX_TOKENIZER_BYTES:
        raise ModelFault(f"tokenizer.json is larger than {_MAX_TOKENIZER_BYTES} bytes")
    settings, added = _settings(folder), _added_tokens(folder)
    try:
        backend = Tokenizer.from_file(str(file))
        _add(backend, added)
        known = backend.get_vocab(with_added_tokens=True)
        tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=backend, **settings)  # type: ignore[no-untyped-call]
        backend = tokenizer.backend_tokenizer
        invented = sorted(set(backend.get_vocab(with_added_tokens=True)) - set(known))
        if invented:
            raise ModelFault(f"the special token {invented[0][:80]!r} has an id in none of the tokenizer's files")
        # How a text is cut off or filled up is the method's business, and chance has no place in it.
        backend.no_truncation()
        backend.no_padding()
        if getattr(backend.model, "dropout", None):
            backend.model.dropout = None
    except (MemoryError, KeyboardInterrupt, ModelFault):
        raise
    except BaseException as error:  # a panic of the tokenizers' Rust core is no Exception
        text = " ".join(str(error).split())[:300]
        raise ModelFault(f"the tokenizer does not load: {text or type(error).__name__}") from error
    return tokenizer  # type: ignore[no-any-return]


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer that needs no file: a token per byte, and one for the end of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<|end|>": 0} | {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), 1)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")  # type: ignore[no-untyped-call]


def _settings(folder: Path) -> dict[str, object]:
    """The allowed settings: special tokens as plain text, the template from its own file where there is one."""
    settings: dict[str, object] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        found = _read_object(folder / name)
        settings |= {key: _plain(value) for key, value in found.items() if key in _SETTINGS and value is not None}
    template = _read(folder / "chat_template.jinja")
    if template is not None:
        settings["chat_template"] = template
    _check_template(settings.get("chat_template", ""))
    return settings


def _check_template(template: object) -> None:
    """A text, or a list of named ones with a default among them: no other name is ever asked for."""
    if isinstance(template, str):
        return
    entries = template if isinstance(template, list) else [None]
    if not all(isinstance(one, dict) and isinstance(one.get("template"), str) for one in entries):
        raise ModelFault("the chat template is neither a text nor a list of named ones")
    names = [str(one.get("name"))[:80] for one in entries if isinstance(one, dict)]
    if "default" not in names:
        raise ModelFault(f"the chat templates are named {', '.join(names) or 'not at all'}; expected one named default")


def _added_tokens(folder: Path) -> dict[int, AddedToken]:
    """The tokens that the other files add to those of tokenizer.json, by id."""
    from tokenizers import AddedToken

    named, decoder = _read_object(folder / "added_tokens.json"), _read_object(folder / "tokenizer_config.json")
    found: dict[int, AddedToken] = {}
    try:
        for content, number in named.items():
            found[int(number)] = AddedToken(content, normalized=False, special=True)
        for number, fields in (decoder.get("added_tokens_decoder") or {}).items():
            found[int(number)] = AddedToken(**fields)
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelFault(f"the added tokens cannot be read: {str(error)[:200]}") from None
    return found


def _add(backend: Tokenizer, added: Mapping[int, AddedToken]) -> None:
    """Add the tokens that tokenizer.json does not know, in the order of their ids, which must come out as declared."""
    for number, token in sorted(added.items()):
        if backend.token_to_id(token.content) is None:
            backend.add_tokens([token])
        if backend.token_to_id(token.content) != number:
            raise ModelFault(
                f"the added token {token.content[:80]!r} has the id {number} in one file and "
                f"{backend.token_to_id(token.content)} by tokenizer.json"
            )


def _plain(value: object) -> object:
    """A special token's text, where it is written out as an object of text and options; so in a list of them."""
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        return value["content"]
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no such file."""
    text = _read(path)
    try:
        found = {} if text is None else json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelFault(f"{path.name} holds no JSON object")
    return found


def _read(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        raw = file.read(_MAX_SETTINGS_BYTES + 1)
    if len(raw) > _MAX_SETTINGS_BYTES:
        raise ModelFault(f"{path.name} is larger than {_MAX_SETTINGS_BYTES} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ModelFault(f"{path.name} is not UTF-8") from None
