"""Documents as typed values: strict types, every mistake at any depth, with its place."""

import datetime
import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sn37.documents import mistakes, parse
from sn37.errors import ConfigError
from sn37.values import Checked, Rule


@dataclass(frozen=True)
class Part(Checked):
    size: int
    weight: float = 1.0

    RULES = (
        Rule("size", lambda size: size > 0, "1 or more"),
        Rule("weight", lambda weight: weight > 0, "above 0"),
    )


@dataclass(frozen=True)
class Whole(Checked):
    name: str
    parts: list[Part]
    home: Path = Path()
    best: Part = field(default_factory=lambda: Part(1))

    RULES = (Rule("name", bool, "a name"),)


def test_plain_data_become_the_value():
    found = parse(Whole, {"name": "a", "parts": [{"size": 2}, {"size": 3, "weight": 1}], "home": Path("b")}, "it")
    assert found == Whole("a", [Part(2), Part(3, 1.0)], Path("b"))


def test_a_mistake_hides_no_other_at_any_depth():
    data = {"name": "", "parts": [{"size": "2", "weight": 0}, {"weight": -1}, 7], "best": {"size": 0, "seize": 1}}
    value, found = mistakes(Whole, data, "it")
    assert value is None
    assert sorted(found) == sorted(
        [
            "it: parts[0]: size is '2'; expected a valid integer",
            "it: parts[0]: weight is 0; expected above 0",
            "it: parts[1]: size is missing; expected 1 or more",
            "it: parts[1]: weight is -1; expected above 0",
            "it: parts[2] is 7; expected a table of size, weight",
            "it: [best]: unknown field seize; the known fields are size, weight; did you mean 'size'?",
            "it: [best]: size is 0; expected 1 or more",
            "it: name is ''; expected a name",
        ]
    )


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([1], "it is [1]; expected a table of name, parts, home, best"),
        (None, "it is None; expected a table of name"),
        ({"name": "a", "parts": [{"size": True}]}, r"parts[0]: size is True; expected a valid integer"),
        ({"name": "a", "parts": [{"size": 1, "weight": math.nan}]}, "weight is nan; expected a finite number"),
        ({"name": datetime.date(2026, 1, 1), "parts": []}, "is a date; expected texts, numbers"),
    ],
)
def test_what_is_no_such_document_is_told(data, told):
    with pytest.raises(ConfigError) as caught:
        parse(Whole, data, "it")
    assert told in str(caught.value)
