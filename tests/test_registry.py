import pytest

from sn37.errors import ConfigError
from sn37.registry import Registry


def test_what_is_registered_is_found_by_its_name():
    fruits = Registry("fruit")

    @fruits("pear")
    def pear():
        return "pear"

    fruits("apple")(len)
    assert fruits["pear"] is pear
    assert ("pear" in fruits, "plum" in fruits, 3 in fruits) == (True, False, False)
    assert list(fruits) == ["apple", "pear"]


def test_a_name_used_twice_is_refused_and_the_first_stays():
    fruits = Registry("fruit")
    fruits("pear")(len)
    with pytest.raises(ValueError, match="the fruit 'pear' is registered twice"):
        fruits("pear")(max)
    assert fruits["pear"] is len


@pytest.mark.parametrize("name", ["plum", "", "PEAR"])
def test_an_unknown_name_is_refused_and_the_known_ones_are_told(name):
    fruits = Registry("fruit")
    fruits("pear")(len)
    fruits("apple")(len)
    with pytest.raises(ConfigError, match=f"unknown fruit '{name}'; expected one of apple, pear"):
        fruits[name]
