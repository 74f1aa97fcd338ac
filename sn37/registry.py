"""Registries: names in a competition file to the factories they stand for, strict about duplicates and unknown names.

A factory is called with the arguments of a task and makes what does the work. Its arguments are typed once, in its
signature: whoever reads a file checks them from there, whoever documents it reads them there. Pure.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from sn37.errors import ConfigError
from sn37.html import table

__all__ = ["Factory", "Registry", "suggestion"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Factory(Generic[T_co]):
    """Makes a source or a method from the arguments of a task.

    >>> from sn37.sources import SOURCES
    >>> SOURCES["word_sorting"](count=3)
    WordSorting(count=3)
    """

    make: Callable[..., T_co]
    """Called with the arguments as keywords."""
    described: Callable[..., object]
    """The class or function whose signature has the arguments, and whose docstring says what they do."""
    given: frozenset[str] = frozenset()
    """Names in that signature that are no arguments of a task: whoever runs the work gives them."""

    def __call__(self, **arguments: object) -> T_co:
        return self.make(**arguments)

    @property
    def module(self) -> str:
        """Where it is defined."""
        return self.described.__module__

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.described) or "").partition("\n")[0]

    @property
    def signature(self) -> str:
        """The arguments with their defaults, for people; "none" where there are none."""
        given = [
            f"{name} (needed)" if argument.default is argument.empty else f"{name} = {argument.default!r}"
            for name, argument in self.arguments.items()
        ]
        return ", ".join(given) or "none"

    @property
    def arguments(self) -> dict[str, inspect.Parameter]:
        """The arguments a task may give, with their types and defaults."""
        try:
            parameters = inspect.signature(self.described, eval_str=True).parameters
        except NameError:  # an annotation that exists for type checkers only
            parameters = inspect.signature(self.described).parameters
        return {name: parameter for name, parameter in parameters.items() if name not in self.given}


class Registry(Generic[T]):
    """What a name in a competition file may stand for. kind: what it holds, for messages."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, Factory[T]] = {}

    def __repr__(self) -> str:
        return f"{self.kind}s: {', '.join(self)}"

    def _repr_html_(self) -> str:
        rows = [(name, self[name].summary, self[name].signature) for name in self]
        return table(("name", "what it is", "arguments"), rows, f"{self.kind}s")

    def add(self, name: str, factory: Factory[T]) -> None:
        """Register under `name`. A name used twice raises ValueError, but a notebook's cell may be run again."""
        known = self._factories.get(name)
        if known is not None and not known.module == factory.module == "__main__":
            raise ValueError(f"the {self.kind} {name!r} is registered twice")
        self._factories[name] = factory

    def __getitem__(self, name: str) -> Factory[T]:
        if name not in self._factories:
            known = f"expected one of {', '.join(self)}"
            raise ConfigError(f"unknown {self.kind} {name!r}; {known}{suggestion(name, self)}")
        return self._factories[name]

    def __contains__(self, name: object) -> bool:
        return name in self._factories

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._factories))


def suggestion(name: object, known: Iterable[str]) -> str:
    """`; did you mean ...?` where a known name is near, "" where none is."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
