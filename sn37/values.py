"""Values that are checked when they are made, and say everything that is wrong with them at once.

Pure. What the type of a field says already is left to type checkers, and to `sn37.documents` where data come from
outside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from sn37.errors import ConfigError
from sn37.html import ShownByField

__all__ = ["Checked", "Rule"]


@dataclass(frozen=True)
class Rule:
    """What must hold for a field, or for several together.

    >>> falls = Rule("start, end", lambda start, end: end <= start, "end <= start")
    >>> list(falls.mistakes({"start": 1, "end": 2}))
    ['start, end is (1, 2); expected end <= start']
    """

    fields: str
    """Their names, with a comma between them."""
    holds: Callable[..., object]
    """Called with their values."""
    expected: str
    """In words."""
    called: str = ""
    """What a message calls it, `{name}` standing for the field `name`; "" for the names of the fields."""
    shown: Callable[..., object] | None = None
    """What a message shows of the values; None for the values themselves."""
    each: bool = False
    """Whether it must hold for each item of the field."""

    def mistakes(self, given: Mapping[str, object]) -> Iterator[str]:
        """A sentence for each breach; nothing where a field is not given."""
        names = self.fields.split(", ")
        if not all(name in given for name in names):
            return
        values = [given[name] for name in names]
        items = values[0] if self.each else None
        for several in [[item] for item in items] if isinstance(items, Iterable) else [values]:
            if not self.holds(*several):
                got = self.shown(*several) if self.shown else several[0] if len(several) == 1 else tuple(several)
                called = (self.called or self.fields).format_map(defaultdict(lambda: "?", given))
                yield f"{called} is {got!r}; expected {self.expected}"


class Checked(ShownByField):
    """Base of a frozen dataclass: making one raises ConfigError with all its mistakes, one a line."""

    RULES: ClassVar[tuple[Rule, ...]] = ()

    def __post_init__(self) -> None:
        if found := self.mistakes(vars(self)):
            raise ConfigError("\n".join(found))

    @classmethod
    def mistakes(cls, given: Mapping[str, object]) -> list[str]:
        """What the rules say of these fields: all of them, or those of a file that have the right type."""
        return [mistake for rule in cls.RULES for mistake in rule.mistakes(given)]
