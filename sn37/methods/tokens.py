"""From text to tokens and back, with a tokenizer that nobody trusts.

A model may bring its own tokenizer and chat template. Whatever they raise is a TokenizerFault; sizes
are bounded; what a template renders depends on its messages alone, not on the day or on chance.
It does not bound the time or the memory a hostile one takes: that is the worker's limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sn37.errors import ConfigError, Sn37Error
from sn37.methods.base import Tokenizer, TokenizerFault

__all__ = ["PLAIN_TEMPLATE", "chat_prompt", "decode", "encode", "end_of_text", "opening", "room_for_prompt"]

PLAIN_TEMPLATE = "{% for message in messages %}{{ message.content }}\n\n{% endfor %}"
"""The chat template of a tokenizer that has none: each message, then an empty line."""

MAX_TEMPLATE_CHARACTERS = 65_536
"""The most a template may add to its messages."""

MAX_CHARACTERS_PER_TOKEN = 1_024
"""The most a token may decode to, on average over a row."""

# A macro shadows the global of its name. The day would make two validators, or a replay, disagree.
_FIXED_DATE = (
    "{% macro strftime_now(format) %}{{ format|replace('%d','26')|replace('%b','Jul')|replace('%B','July')"
    "|replace('%Y','2024')|replace('%y','24')|replace('%m','07')|replace('%A','Friday')|replace('%a','Fri')"
    "|replace('%H','00')|replace('%M','00')|replace('%S','00') }}{% endmacro +%}"
)


@contextmanager
def _tokenizer_at(doing: str) -> Iterator[None]:
    try:
        yield
    except (Sn37Error, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of the tokenizers' Rust core is no Exception
        text = " ".join(str(error).split())[:200]
        raise TokenizerFault(f"the tokenizer failed at {doing}: {type(error).__name__}: {text}") from error


def encode(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """The tokens of the text alone, without those a tokenizer adds at its ends."""
    with _tokenizer_at("encoding a text"):
        return tuple(tokenizer.encode(text, add_special_tokens=False, verbose=False))


def decode(tokenizer: Tokenizer, tokens: Sequence[int], *, special: bool) -> str:
    """The text of the tokens as it is, spaces untouched; special: with the special tokens' own text."""
    with _tokenizer_at("decoding tokens"):
        text = tokenizer.decode(list(tokens), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        if len(text) > MAX_CHARACTERS_PER_TOKEN * max(len(tokens), 1):
            raise TokenizerFault(
                f"the tokenizer makes {len(text)} characters of {len(tokens)} tokens; "
                f"expected at most {MAX_CHARACTERS_PER_TOKEN} a token"
            )
        return text


def opening(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The beginning-of-text token, if the tokenizer itself opens a text with it; nothing else it may add."""
    first = tokenizer.bos_token_id
    with _tokenizer_at("encoding an empty text"):
        return (first,) if first is not None and tokenizer.encode("")[:1] == [first] else ()


def end_of_text(tokenizer: Tokenizer) -> frozenset[int]:
    """The token that ends a reply. The model's own generation settings are never asked."""
    return frozenset() if tokenizer.eos_token_id is None else frozenset({tokenizer.eos_token_id})


def chat_prompt(tokenizer: Tokenizer, prompt: str, system: str = "") -> tuple[int, ...]:
    """The prompt through the chat template, with its generation prompt.

    A template that refuses a system message gets the system's text at the head of the prompt.
    """
    text = _rendered(tokenizer, _conversation(prompt, system))
    tokens = encode(tokenizer, text)
    if _template(tokenizer) is None:
        tokens = opening(tokenizer) + tokens
    if not tokens:
        raise TokenizerFault("the chat template leaves nothing of a prompt; expected at least one token")
    return tokens


def room_for_prompt(sequence_length: int, max_new_tokens: int) -> int:
    """How many of a prompt's last tokens fit before a reply. Raises ConfigError where none does."""
    if sequence_length <= max_new_tokens:
        raise ConfigError(
            f"the sequence length is {sequence_length}; expected more than the {max_new_tokens} tokens of a reply: "
            "give the competition a longer one"
        )
    return sequence_length - max_new_tokens


def _conversation(prompt: str, system: str) -> list[dict[str, str]]:
    user = {"role": "user", "content": prompt}
    return [{"role": "system", "content": system}, user] if system else [user]


def _template(tokenizer: Tokenizer) -> str | None:
    named = tokenizer.chat_template
    template = named.get("default") if isinstance(named, dict) else named
    return template if isinstance(template, str) else None


def _rendered(tokenizer: Tokenizer, conversation: list[dict[str, str]]) -> str:
    template = _template(tokenizer)
    source = PLAIN_TEMPLATE if template is None else _FIXED_DATE + template
    try:
        text = _render(tokenizer, conversation, source)
    except TokenizerFault:
        if conversation[0]["role"] != "system":
            raise
        folded = _conversation("\n\n".join(message["content"] for message in conversation), "")
        return _rendered(tokenizer, folded)
    if text != _render(tokenizer, conversation, source):
        raise TokenizerFault("the chat template renders one prompt in two ways; expected no chance in it")
    limit = MAX_TEMPLATE_CHARACTERS + sum(len(message["content"]) for message in conversation)
    if len(text) > limit:
        raise TokenizerFault(f"the chat template renders {len(text)} characters; expected at most {limit}")
    return text


def _render(tokenizer: Tokenizer, conversation: list[dict[str, str]], source: str) -> str:
    with _tokenizer_at("rendering its chat template"):
        return str(
            tokenizer.apply_chat_template(
                conversation, chat_template=source, add_generation_prompt=True, tokenize=False
            )
        )
