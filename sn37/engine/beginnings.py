"""Which prompts begin alike, so that their beginning is computed once.

A chat template opens every prompt with the same words, and questions may open with the same worked example.
The answer follows from the prompts alone, whatever order they come in. Pure: knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["beginnings"]

Tokens = tuple[int, ...]

_LEAST_SAVED = 0.1
"""The share of a family's tokens that its beginning must save: what is behind it needs a mask of its own."""


@dataclass
class _Family:
    """Prompts with `length` tokens in common, by their place; `within`: families that have more in common."""

    length: int
    members: list[int] = field(default_factory=list)
    within: list[_Family] = field(default_factory=list)

    @property
    def saved(self) -> int:
        return self.length * (len(self.members) - 1)

    def settled(self) -> list[_Family]:
        """This family with all that are better off in it, and those within that are not."""
        apart = []
        for family in self.within:
            if family.saved > self.length * len(family.members):
                apart.append(family)
            else:
                self.members += family.members
        return [*apart, _Family(self.length, self.members)] if self.members else apart


def beginnings(prompts: Iterable[Tokens], max_tokens: int) -> dict[Tokens, Tokens]:
    """The beginning each prompt shares with others, shorter than any of them; a prompt without one is left out.

    Beginnings together have at most `max_tokens`: those that save the most come first.
    """
    ordered = sorted(set(prompts))
    found: dict[Tokens, Tokens] = {}
    for family in sorted(_families(ordered), key=lambda family: (-family.saved, family.members)):
        members = [ordered[i] for i in sorted(family.members)]
        length = min(family.length, len(members[0]) - 1)  # one token at least is left to ask what follows
        saved = length * (len(members) - 1)
        if 0 < length <= max_tokens and saved >= _LEAST_SAVED * sum(map(len, members)):
            max_tokens -= length
            found.update((prompt, prompt[:length]) for prompt in members)
    return found


def _families(ordered: Sequence[Tokens]) -> list[_Family]:
    """Families that do not overlap, all prompts in one of them.

    They nest as beginnings do; `open_` holds those around the prompt at hand, the outermost first.
    """
    open_ = [_Family(0)]
    for i, prompt in enumerate(ordered):
        common = _common(prompt, ordered[i + 1]) if i + 1 < len(ordered) else 0
        inner = [_Family(0, [i])]
        if open_[-1].length < common:
            open_.append(_Family(common))
        open_[-1].within += inner
        while open_[-1].length > common:
            inner = open_.pop().settled()
            if open_[-1].length < common:
                open_.append(_Family(common))
            open_[-1].within += inner
    return open_[0].settled()


def _common(left: Tokens, right: Tokens) -> int:
    """How many tokens two prompts have in common at their beginning."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (one, other) in pairs if one != other), min(len(left), len(right)))
