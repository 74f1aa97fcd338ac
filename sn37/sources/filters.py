"""Conditions on a row: a column, an operator and a value, as plain data."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sn37.errors import ConfigError
from sn37.sources.base import DataRow
from sn37.sources.templates import Absent, Path

__all__ = ["OPERATORS", "Condition", "Filter"]

Condition = dict[str, str | int | float | bool | list[str | int | float]]
"""`{ column = "score", op = ">=", value = 0.5 }`, as a competition file has it."""

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, allowed: value in allowed,
    "contains": operator.contains,
    "min_length": lambda value, least: len(value) >= least,
    "max_length": lambda value, most: len(value) <= most,
}


@dataclass(frozen=True)
class Filter:
    """A condition that a row must meet; a row without the value does not."""

    path: Path
    """Where in the row the value is."""
    op: str
    """One of `OPERATORS`."""
    value: object
    """What it is compared with, as the competition file has it."""

    @classmethod
    def parse(cls, condition: Condition) -> Filter:
        """Raises ConfigError naming what is wrong."""
        expected = "expected { column = ..., op = ..., value = ... }"
        if set(condition) != {"column", "op", "value"}:
            raise ConfigError(f"the filter {condition} has other fields; {expected}")
        column, op, value = str(condition["column"]), str(condition["op"]), condition["value"]
        if op not in OPERATORS:
            raise ConfigError(f"the filter {condition} has the op {op!r}; expected one of {', '.join(OPERATORS)}")
        if (op == "in") != isinstance(value, list) or (op.endswith("_length") and not isinstance(value, int)):
            raise ConfigError(f"the filter {condition}: {op} takes {'a list' if op == 'in' else 'one plain value'}")
        try:
            return cls(Path.parse(column), op, value)
        except ValueError as error:
            raise ConfigError(f"the filter {condition}: {error}") from None

    def holds(self, row: DataRow) -> bool:
        """Whether the row meets the condition."""
        try:
            return bool(OPERATORS[self.op](self.path.of(row), self.value))
        except (Absent, TypeError):
            return False
