from dataclasses import dataclass

import pytest

from sn37.errors import ConfigError
from sn37.registry import Factory, Registry


@dataclass(frozen=True)
class Pear:
    """A pear.

    It is green.
    """

    weight: float = 0.1
    """In kilograms."""


def fruits(*names):
    registry = Registry("fruit")
    for name in names:
        registry.add(name, Factory(Pear, Pear))
    return registry


def test_what_is_registered_is_found_by_its_name():
    registry = fruits("pear", "apple")
    assert registry["pear"](weight=0.2) == Pear(0.2)
    assert ("pear" in registry, "plum" in registry, 3 in registry) == (True, False, False)
    assert list(registry) == ["apple", "pear"]


def test_a_factory_tells_its_arguments_its_home_and_what_it_is():
    factory = fruits("pear")["pear"]
    assert [(name, p.annotation, p.default) for name, p in factory.arguments.items()] == [("weight", float, 0.1)]
    assert factory.summary == "A pear."
    assert factory.module == __name__


def test_what_the_caller_gives_is_no_argument():
    factory = Factory(len, lambda context, count=3: None, frozenset({"context"}))
    assert list(factory.arguments) == ["count"]


def test_a_name_used_twice_is_refused_and_the_first_stays():
    registry = fruits("pear")
    with pytest.raises(ValueError, match="the fruit 'pear' is registered twice"):
        registry.add("pear", Factory(dict, dict))
    assert registry["pear"]() == Pear()


def test_a_cell_of_a_notebook_may_be_run_again(monkeypatch):
    monkeypatch.setattr(Pear, "__module__", "__main__")
    registry = fruits("pear")
    registry.add("pear", Factory(lambda: Pear(9.0), Pear))
    assert registry["pear"]() == Pear(9.0)


@pytest.mark.parametrize("name", ["plum", "", "PEAR"])
def test_an_unknown_name_is_refused_and_the_known_ones_are_told(name):
    with pytest.raises(ConfigError, match=f"unknown fruit '{name}'; expected one of apple, pear"):
        fruits("pear", "apple")[name]


def test_a_slip_of_the_pen_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"unknown fruit 'paer'; expected one of apple, pear; did you mean 'pear'\?$"):
        fruits("pear", "apple")["paer"]
