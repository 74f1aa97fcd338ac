"""Which prompts share a prefix, so that it is computed once.

A chat template opens every prompt with the same words, and questions may open with the same worked example.
The answer follows from the prompts alone, whatever order they come in. Pure: knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["shared_prefixes"]

Tokens = tuple[int, ...]

_LEAST_SAVED = 0.1
"""The share of a group's tokens that its prefix must save: what is behind it needs a mask of its own."""


@dataclass
class _Group:
    """Prompts that share a prefix."""

    length: int
    """How many tokens they have in common."""
    members: list[int] = field(default_factory=list)
    """The prompts, by their place in sorted order."""
    within: list[_Group] = field(default_factory=list)
    """Groups that have more in common, not yet merged or split off."""

    @property
    def saved(self) -> int:
        """How many tokens need not be computed."""
        return self.length * (len(self.members) - 1)

    def resolved(self) -> list[_Group]:
        """This group with all that save more in it, and those within that save more apart."""
        apart = []
        for group in self.within:
            if group.saved > self.length * len(group.members):
                apart.append(group)
            else:
                self.members += group.members
        return [*apart, _Group(self.length, self.members)] if self.members else apart


def shared_prefixes(prompts: Iterable[Tokens], max_tokens: int) -> dict[Tokens, Tokens]:
    """The prefix each prompt shares with others, shorter than any of them; a prompt without one is left out.

    Prefixes together have at most `max_tokens`: those that save the most come first.
    """
    ordered = sorted(set(prompts))
    found: dict[Tokens, Tokens] = {}
    for group in sorted(_groups(ordered), key=lambda group: (-group.saved, group.members)):
        members = [ordered[i] for i in sorted(group.members)]
        length = min(group.length, len(members[0]) - 1)  # one token at least is left to ask what follows
        saved = length * (len(members) - 1)
        if 0 < length <= max_tokens and saved >= _LEAST_SAVED * sum(map(len, members)):
            max_tokens -= length
            found.update((prompt, prompt[:length]) for prompt in members)
    return found


def _groups(ordered: Sequence[Tokens]) -> list[_Group]:
    """Groups that do not overlap, all prompts in one of them.

    In sorted order, prompts with a common prefix stand side by side, so groups nest like brackets: `open_` holds those
    around the prompt at hand, the outermost first.
    """
    open_ = [_Group(0)]
    for i, prompt in enumerate(ordered):
        common = _common_length(prompt, ordered[i + 1]) if i + 1 < len(ordered) else 0
        inner = [_Group(0, [i])]
        # The next prompt has more in common with this one than those around it have: a group opens.
        if open_[-1].length < common:
            open_.append(_Group(common))
        open_[-1].within += inner
        # It has less in common: groups close, into the one around them or one opened between.
        while open_[-1].length > common:
            inner = open_.pop().resolved()
            if open_[-1].length < common:
                open_.append(_Group(common))
            open_[-1].within += inner
    return open_[0].resolved()


def _common_length(left: Tokens, right: Tokens) -> int:
    """How many tokens two prompts have in common before they differ."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (one, other) in pairs if one != other), min(len(left), len(right)))
