"""From text to tokens and back, with a tokenizer that nobody trusts.

A model may bring its own tokenizer and chat template. Whatever they raise is a TokenizerFault; sizes
are bounded; of a chat template only constant text is taken (`sn37.methods.chat_template`).
It does not bound the time or the memory a hostile tokenizer takes: that is the worker's limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from sn37.errors import ConfigError, Sn37Error
from sn37.methods.base import Flaw, Tokenizer, TokenizerFault
from sn37.methods.chat_template import PLAIN, Frame, frames_of

__all__ = ["chat_prompt", "decode", "encode", "end_of_text", "fitted", "opening", "room_for_prompt"]

MAX_CHARACTERS_PER_TOKEN = 1_024
"""The most a token may decode to, on average over a row."""

MAX_TOKENS_PER_BYTE, _MARKS = 2, 8
"""A token a byte is the most that an honest tokenizer needs; twice as many, and some marks, are far beyond it."""


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


def fitted(tokenizer: Tokenizer, text: str, tokens: tuple[int, ...], room: int) -> tuple[tuple[int, ...], Flaw, int]:
    """The text's first tokens, as many as there is room for; what is wrong with them; the bytes they stand for.

    Raises TokenizerFault where there are more tokens than any text needs: a tokenizer that blows up a text until it
    does not fit would choose what is measured.
    """
    size = len(text.encode())
    if len(tokens) > MAX_TOKENS_PER_BYTE * size + _MARKS:
        raise TokenizerFault(
            f"the tokenizer makes {len(tokens)} tokens of {size} bytes of text; expected at most one a byte"
        )
    if not tokens or decode(tokenizer, tokens, special=True) != text:
        return tokens[:room], "does not decode", size
    if len(tokens) <= room:
        return tokens, "", size
    # The cut may go through a letter, whose bytes then decode to U+FFFD.
    said = decode(tokenizer, tokens[:room], special=True).rstrip("\ufffd")
    return tokens[:room], "too long", len(said.encode())


def opening(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The beginning-of-text token, if the tokenizer itself opens a text with it; nothing else it may add."""
    first = tokenizer.bos_token_id
    with _tokenizer_at("encoding an empty text"):
        return (first,) if first is not None and tokenizer.encode("")[:1] == [first] else ()


def end_of_text(tokenizer: Tokenizer) -> frozenset[int]:
    """The token that ends a reply. The model's own generation settings are never asked."""
    return frozenset() if tokenizer.eos_token_id is None else frozenset({tokenizer.eos_token_id})


def chat_prompt(tokenizer: Tokenizer, prompt: str, system: str = "") -> tuple[int, ...]:
    """The prompt within the constant text of the chat template, with its generation prompt.

    A template that refuses or leaves out a system message gets the system's text at the head of the prompt.
    """
    template = _template(tokenizer)
    frames = PLAIN if template is None else frames_of(template, tokenizer.special_tokens_map)
    tokens = encode(tokenizer, _framed(frames, prompt, system))
    if template is None:
        tokens = opening(tokenizer) + tokens
    if not tokens:
        raise TokenizerFault("the tokenizer leaves nothing of a prompt; expected at least one token")
    return tokens


def room_for_prompt(sequence_length: int, max_new_tokens: int) -> int:
    """How many of a prompt's last tokens fit before a reply. Raises ConfigError where none does."""
    if sequence_length <= max_new_tokens:
        raise ConfigError(
            f"the sequence length is {sequence_length}; expected more than the {max_new_tokens} tokens of a reply: "
            "give the competition a longer one"
        )
    return sequence_length - max_new_tokens


def _template(tokenizer: Tokenizer) -> str | None:
    named = tokenizer.chat_template
    template = named.get("default") if isinstance(named, dict) else named
    return template if isinstance(template, str) else None


def _framed(frames: Mapping[tuple[str, ...], Frame | str], prompt: str, system: str) -> str:
    if system and isinstance(frame := frames["system", "user"], Frame):
        return frame.prompt(system, prompt)
    frame = frames["user",]
    if not isinstance(frame, Frame):
        raise TokenizerFault(f"the chat template {frame}")
    return frame.prompt(f"{system}\n\n{prompt}" if system else prompt)
