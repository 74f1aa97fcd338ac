"""Values say everything that is wrong with them, and of a part of them what can be said of it."""

from dataclasses import dataclass

import pytest

from sn37.errors import ConfigError
from sn37.values import Checked, Rule


@dataclass(frozen=True)
class Range(Checked):
    low: int
    high: int
    names: tuple[str, ...] = ("a",)

    RULES = (
        Rule("low", lambda low: low >= 0, "0 or more"),
        Rule("low, high", lambda low, high: low <= high, "low <= high", "range {low}", shown=lambda low, high: high),
        Rule("names", str.islower, "lower case", each=True),
    )


def test_every_mistake_is_told_when_a_value_is_made():
    with pytest.raises(ConfigError) as caught:
        Range(-1, -2, ("A", "b", "C"))
    assert str(caught.value).splitlines() == [
        "low is -1; expected 0 or more",
        "range -1 is -2; expected low <= high",
        "names is 'A'; expected lower case",
        "names is 'C'; expected lower case",
    ]
    assert Range(1, 2).names == ("a",)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, []),
        ({"high": -1}, []),
        ({"low": -1}, ["low is -1; expected 0 or more"]),
        ({"low": 3, "high": 2}, ["range 3 is 2; expected low <= high"]),
        ({"names": ["B"], "colour": 1}, ["names is 'B'; expected lower case"]),
    ],
)
def test_what_is_not_given_is_not_judged(given, told):
    assert Range.mistakes(given) == told
