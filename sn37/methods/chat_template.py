"""What is taken from a chat template: the constant text before, between and behind the messages.

A chat template is a program of a stranger. It is rendered once per turn structure, with placeholders in place of the
contents; whoever uses the frame puts the contents in. So it cannot act on a prompt, whatever it asks of it.

It runs in transformers' sandbox, in two processes of its own with limits of time and memory: what differs
between two sets of placeholders, or between two processes, is refused, and so no chance, hash or address comes through.
It does not protect against text that is the same in all four renderings and would differ for another content:
such a template has said what it says of the placeholders, and no more is asked of it.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sn37.methods.base import TokenizerFault

__all__ = ["PLAIN", "STRUCTURES", "Frame", "frames_of"]

STRUCTURES: tuple[tuple[str, ...], ...] = (("user",), ("system", "user"))
"""The turn structures that prompts have, as the roles of their messages."""

MAX_CHARACTERS = 65_536
"""The most a template may add to its messages."""

MAX_CPU_S = 5
MAX_MEMORY_BYTES = 1 << 30
_MAX_WAIT_S = 300

_PLACEHOLDERS = (
    "PLACEHOLDER-FOR-{}-TEXT",
    "Sort this for the {}: b a, c?\n\nThen say in 2 words:\n* what 1 + 1 is. {}",
)
"""Two contents, unlike in every way that an honest template does not look at."""

# A macro shadows the global of its name. The day would make two validators, or a replay, disagree.
_FIXED_DATE = (
    "{% macro strftime_now(format) %}{{ format|replace('%d','26')|replace('%b','Jul')|replace('%B','July')"
    "|replace('%Y','2024')|replace('%y','24')|replace('%m','07')|replace('%A','Friday')|replace('%a','Fri')"
    "|replace('%H','00')|replace('%M','00')|replace('%S','00') }}{% endmacro +%}"
)


@dataclass(frozen=True)
class Frame:
    """The constant text around the messages of one turn structure."""

    pieces: tuple[str, ...]
    """What stands before, between and behind the messages: one more than there are messages."""

    def prompt(self, *contents: str) -> str:
        """The contents, in the order of their messages, with the text around them."""
        inner = zip(contents, self.pieces[1:], strict=True)
        return self.pieces[0] + "".join(content + piece for content, piece in inner)


PLAIN: Mapping[tuple[str, ...], Frame] = {roles: Frame(("", *["\n\n"] * len(roles))) for roles in STRUCTURES}
"""The frames of a tokenizer without a template: each message, then an empty line."""


def frames_of(template: str, special_tokens: Mapping[str, str]) -> Mapping[tuple[str, ...], Frame | str]:
    """For each turn structure its frame, or why the template has none, in a sentence's second half.

    special_tokens: the tokenizer's, by name, as transformers hands them to a template. Raises TokenizerFault
    when the template takes too long or is not the same in two processes.
    """
    return _frames(json.dumps({"template": _FIXED_DATE + template, "special_tokens": dict(special_tokens)}))


@lru_cache(maxsize=64)
def _frames(request: str) -> Mapping[tuple[str, ...], Frame | str]:
    program = [sys.executable, "-P", "-c", f"from {__name__} import _main; _main()"]

    def render(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(program, input=request, stdout=subprocess.PIPE, text=True, timeout=_MAX_WAIT_S)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(render, range(2))
    for ended in (first, second):
        if ended.returncode == -signal.SIGKILL:
            raise MemoryError("a chat template's process was killed")
        if ended.returncode < 0:
            raise TokenizerFault(f"the chat template takes more than {MAX_CPU_S} s; expected an answer at once")
        ended.check_returncode()
    if first.stdout != second.stdout:
        raise TokenizerFault("the chat template renders one conversation in two ways; expected constant text")
    found = zip(STRUCTURES, json.loads(first.stdout), strict=True)
    return {roles: made if isinstance(made, str) else Frame(tuple(made)) for roles, made in found}


def _main() -> None:
    """In a process of its own: read a request, write what `_rendered` finds."""
    request = json.load(sys.stdin)
    import transformers.utils.chat_template_utils  # noqa: F401  before the limits: this is not the template's doing

    _limit()
    json.dump(_rendered(**request), sys.stdout)


def _rendered(template: str, special_tokens: Mapping[str, str]) -> list[list[str] | str]:
    """For each turn structure the pieces of its frame, or why there is none."""
    found: list[list[str] | str] = []
    for roles in STRUCTURES:
        try:
            found.append(_pieces(template, special_tokens, roles))
        except Exception as error:
            told = str(error) if isinstance(error, _Refused) else f"fails: {type(error).__name__}: {error}"
            found.append(" ".join(told.split())[:200])
    return found


class _Refused(Exception):
    """Why a template has no frame."""


def _pieces(template: str, special_tokens: Mapping[str, str], roles: Sequence[str]) -> list[str]:
    from transformers.utils.chat_template_utils import render_jinja_template

    versions = []
    for placeholder in _PLACEHOLDERS:
        contents = [placeholder.format(role, role) for role in roles]
        conversation = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        # The return type it states is not the one it has.
        rendered: Any = render_jinja_template(
            [conversation], chat_template=template, add_generation_prompt=True, **dict[str, Any](special_tokens)
        )
        versions.append(_split(rendered[0][0], contents, roles))
    if versions[0] != versions[1]:
        raise _Refused("renders one conversation in two ways; expected constant text around the messages")
    if (size := sum(map(len, versions[0]))) > MAX_CHARACTERS:
        raise _Refused(f"adds {size} characters to its messages; expected at most {MAX_CHARACTERS}")
    return versions[0]


def _split(text: str, contents: Sequence[str], roles: Sequence[str]) -> list[str]:
    for content, role in zip(contents, roles, strict=True):
        if (times := text.count(content)) != 1:
            raise _Refused(f"has the {role} message {times} times; expected it once, as it is, in its place")
    pieces, rest = [], text
    for content, role in zip(contents, roles, strict=True):
        piece, found, rest = rest.partition(content)
        if not found:
            raise _Refused(f"has the {role} message before others; expected the order of the conversation")
        pieces.append(piece)
    return [*pieces, rest]


def _limit() -> None:
    """From here on, MAX_CPU_S of the processor and about MAX_MEMORY_BYTES of memory."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + MAX_CPU_S
    _lower(resource.RLIMIT_CPU, seconds)
    held = Path("/proc/self/statm")
    if held.exists():
        _lower(resource.RLIMIT_DATA, int(held.read_text().split()[5]) * resource.getpagesize() + MAX_MEMORY_BYTES)


def _lower(which: int, limit: int) -> None:
    most = resource.getrlimit(which)[1]
    resource.setrlimit(which, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
